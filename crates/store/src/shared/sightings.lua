-- Adds to numbers that all nodes count together. Version 1: the keys carry it. A number stands for ARGV[1] ms from its first;
-- where it has a place, one more is counted when the place is another than before.
--
-- ARGV: how long a number stands, and for each key: what is added, and the place or nothing. Returns what each comes to.
local totals = {}
for i, key in ipairs(KEYS) do
    local add, place = tonumber(ARGV[i * 2]), ARGV[i * 2 + 1]
    if place ~= '' then
        local before = redis.call('HGET', key, 'place')
        if before and before ~= place then
            add = add + 1
        end
        redis.call('HSET', key, 'place', place)
    end
    totals[i] = redis.call('HINCRBY', key, 'total', add)
    if redis.call('PTTL', key) < 0 then
        redis.call('PEXPIRE', key, ARGV[1])
    end
end
return totals
