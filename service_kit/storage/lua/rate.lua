-- Gives out a part of what a name may ask in a second; a budget is kept as the time at which it is whole again.
-- ARGV: the name; how many a second; how many at once; how many are wanted; 1 when they are owed, and so are taken also
-- when they are not there. Answers how many are granted, and for how many milliseconds there is no more.

local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local key = KEYS[1] .. ':rate:' .. ARGV[1]
local each_us = 1000000 / tonumber(ARGV[2])
local whole_us = math.max(tonumber(redis.call('GET', key) or '0'), now_us)
local room_us = tonumber(ARGV[3]) * each_us - (whole_us - now_us)
local granted = tonumber(ARGV[4])
if ARGV[5] ~= '1' then
    granted = math.min(math.floor(room_us / each_us), granted)
end
if granted <= 0 then
    return {0, math.ceil((each_us - room_us) / 1000)}
end
whole_us = whole_us + granted * each_us
redis.call('SET', key, string.format('%.0f', whole_us), 'PX', math.ceil((whole_us - now_us) / 1000) + 1000)
return {granted, math.ceil((each_us - room_us) / 1000 + granted * each_us / 1000)}
