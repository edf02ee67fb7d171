-- Removes records that are still stale, with all that is theirs. ARGV: before, list of states, list of names.
-- Answers how many went.
local before, states, names = tonumber(take()), set_of(take_list()), take_list()

local function is_stale(name, record)
    if not states[record.state] or tonumber(record.updated) >= before then
        return false
    end
    for _, blob in ipairs(call('HVALS', key('messages', name))) do
        if ACTIVE[message_of(blob).state] then
            return false
        end
    end
    return true
end

local gone = 0
for _, name in ipairs(names) do
    local blob = call('GET', key('record', name))
    if blob then
        local record = record_of(blob)
        if is_stale(name, record) then
            raise_floor(record.token)
            drop_record(name, blob)
            gone = gone + 1
        end
    end
end
return gone
