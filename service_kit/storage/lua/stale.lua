-- Names records in a state that were last changed before a time and have no active message.
-- ARGV: before, how many, list of states. Answers name, token, name, token ...
local before, limit, states = take(), tonumber(take()), take_list()
local found = {}

local function is_active(name)
    for _, blob in ipairs(call('HVALS', key('messages', name))) do
        if ACTIVE[message_of(blob).state] then
            return true
        end
    end
    return false
end

for _, state in ipairs(states) do
    local offset, size = 0, 500
    repeat
        local names = call('ZRANGEBYSCORE', key('changed', state), '-inf', '(' .. before, 'LIMIT', offset, size)
        for _, name in ipairs(names) do
            if #found < 2 * limit and not is_active(name) then
                found[#found + 1] = name
                found[#found + 1] = record_of(call('GET', key('record', name))).token
            end
        end
        offset = offset + size
    until #names < size or #found >= 2 * limit
end
return found
