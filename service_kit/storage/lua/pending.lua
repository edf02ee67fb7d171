-- Reads pending messages without an address above a position. ARGV: how many records; for each: name, after.
-- Answers a list of id, value, id, value ... for each.
local answer = {}
for n = 1, tonumber(take()) do
    local name, after = take(), tonumber(take())
    local messages = call('HGETALL', key('messages', name))
    local found = {}
    for m = 1, #messages, 2 do
        local message = message_of(messages[m + 1])
        if message.state == 'pending' and message.address == '' and message.position > after then
            found[#found + 1] = messages[m]
            found[#found + 1] = messages[m + 1]
        end
    end
    answer[n] = found
end
return answer
