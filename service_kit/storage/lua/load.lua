-- Reads what steps decide on. ARGV: how many records; for each: name, list of entry ids, list of message ids.
-- Answers the token floor, then for each the record's value, its entries and its messages, in the order of the ids.
local answer = { call('GET', FLOOR) or '0' }
for _ = 1, tonumber(take()) do
    local name, entry_ids, message_ids = take(), take_list(), take_list()
    local entries, messages = {}, {}
    if #entry_ids > 0 then
        local log = key('log', name)
        local first = call('LINDEX', log, 0)
        for n, entry_id in ipairs(entry_ids) do
            local seq = call('HGET', key('ids', name), entry_id)
            entries[n] = seq and call('LINDEX', log, seq - entry_of(first).seq)
        end
    end
    for n, message_id in ipairs(message_ids) do
        messages[n] = call('HGET', key('messages', name), message_id)
    end
    answer[#answer + 1] = { call('GET', key('record', name)), entries, messages }
end
return answer
