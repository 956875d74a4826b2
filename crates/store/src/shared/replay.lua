-- Takes note of a proof. Version 1. Beside it, which memory this is: a new one means that what was noted before is lost.
--
-- KEYS: the proof, the memory. ARGV: for how long in ms, a name for a new memory. Returns 1 or 0 (seen before), and the memory.
local memory = redis.call('GET', KEYS[2])
if not memory then
    memory = ARGV[2]
    redis.call('SET', KEYS[2], memory)
end
local first = redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1])
return { first and 1 or 0, memory }
