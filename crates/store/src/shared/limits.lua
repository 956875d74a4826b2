-- Counts against several limits, all or none. Version 1: the keys carry it, so that nodes of two versions never disagree about
-- what a key holds. Time is the server's. Rates by the generic cell rate algorithm (ITU-T I.371): a key holds when its bucket
-- will be empty, in microseconds. Places: a key holds who has one, by when the place lapses unless its node says otherwise.
--
-- ARGV: member, lease in ms, and for each key: 'rate', limit, window in us, amount; or 'place', limit, 0, 0.
-- Returns 0 or which limit refuses, the wait in us, and for each key what remains and in how many us it is as at first.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local member, lease = ARGV[1], tonumber(ARGV[2])
local levels, after = {}, {}
for i, key in ipairs(KEYS) do
    local at = 3 + (i - 1) * 4
    local kind, limit, window, amount = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    if kind == 'rate' then
        local one = window / math.max(limit, 1)
        local empty = tonumber(redis.call('GET', key) or '0')
        -- Never further ahead than a full bucket: the clock of another server may have been.
        empty = math.min(math.max(empty, now), now + window)
        local new = empty + math.min(amount, math.max(limit, 1)) * one
        if limit < 1 or new - now > window + 1 then
            local remaining = limit < 1 and 0 or math.floor((window - (empty - now)) / one + 0.000001)
            local wait = limit < 1 and window or new - now - window
            return { i, math.ceil(wait), remaining, math.ceil(empty - now) }
        end
        after[i] = new
        levels[#levels + 1] = math.floor((window - (new - now)) / one + 0.000001)
        levels[#levels + 1] = math.ceil(new - now)
    else
        redis.call('ZREMRANGEBYSCORE', key, '-inf', now / 1000)
        local taken = redis.call('ZCARD', key)
        if taken >= limit then
            return { i, 0, 0, 0 }
        end
        levels[#levels + 1] = limit - taken - 1
        levels[#levels + 1] = 0
    end
end
for i, key in ipairs(KEYS) do
    if after[i] then
        redis.call('SET', key, string.format('%.0f', after[i]), 'PX', math.ceil((after[i] - now) / 1000) + 1000)
    else
        redis.call('ZADD', key, now / 1000 + lease, member)
        redis.call('PEXPIRE', key, lease)
    end
end
return { 0, 0, unpack(levels) }
