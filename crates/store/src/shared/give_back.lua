-- Takes back from rates what was counted and has not come to pass. Version 1, of the keys that limits.lua of version 1 writes.
--
-- ARGV, for each key: limit, window in us, amount.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for i, key in ipairs(KEYS) do
    local at = 1 + (i - 1) * 3
    local limit, window, amount = math.max(tonumber(ARGV[at]), 1), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local empty = redis.call('GET', key)
    if empty then
        -- One that is empty already is below now: nothing is added to what it lets through.
        local new = math.min(tonumber(empty), now + window) - math.min(amount, limit) * (window / limit)
        if new > now then
            redis.call('SET', key, string.format('%.0f', new), 'PX', math.ceil((new - now) / 1000) + 1000)
        else
            redis.call('DEL', key)
        end
    end
end
return redis.status_reply('OK')
