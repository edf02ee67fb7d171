-- Writes what steps have made of records, each wholly or not at all; the one atomic change.
-- ARGV: how many records; for each: name, expected version ('' when there must be none), token floor that was known,
-- the new value, forget through, and three lists: entries (their values), messages put (id, value, id, value ...),
-- messages settled (their ids).
-- Answers for each: 'ok', 'conflict' (it is not as expected), 'taken' (an entry's number or id is).

local function check(change, stored)
    if not stored then
        if change.expect ~= '' or is_greater(call('GET', FLOOR) or '0', change.floor) then
            return 'conflict'
        end
    else
        local old = record_of(stored)
        if old.nonce == record_of(change.value).nonce then
            return 'ok', true -- sent twice, because the first answer was lost
        end
        if old.version ~= change.expect then
            return 'conflict'
        end
    end
    if #change.entries > 0 then
        local tail = call('LINDEX', key('log', change.name), -1)
        local last = tail and entry_of(tail).seq
        local forgotten = last and change.forget >= last
        for n, blob in ipairs(change.entries) do
            local entry = entry_of(blob)
            if n == 1 and last and not forgotten and entry.seq ~= last + 1 then
                return 'taken'
            end
            local known = call('HGET', key('ids', change.name), entry.id)
            if known and tonumber(known) > change.forget then
                return 'taken'
            end
        end
    end
    return 'ok'
end

local function forget(name, through, record_id)
    local log, ids = key('log', name), key('ids', name)
    local first = call('LINDEX', log, 0)
    while first and entry_of(first).seq <= through do
        call('HDEL', ids, entry_of(first).id)
        call('LPOP', log)
        first = call('LINDEX', log, 0)
    end
    local messages = call('HGETALL', key('messages', name))
    for n = 1, #messages, 2 do
        local message = message_of(messages[n + 1])
        if message.position <= through and not ACTIVE[message.state] then
            drop_message(name, record_id, messages[n], messages[n + 1])
        end
    end
end

local function apply(change, stored)
    local name = change.name
    local new = record_of(change.value)
    call('SET', key('record', name), change.value)
    index_record(name, new, stored and record_of(stored))
    if change.forget > 0 then
        forget(name, change.forget, new.id)
    end
    for _, blob in ipairs(change.entries) do
        local entry = entry_of(blob)
        call('RPUSH', key('log', name), blob)
        call('HSET', key('ids', name), entry.id, entry.seq)
    end
    local messages = key('messages', name)
    for n = 1, #change.puts, 2 do
        local message_id, blob = change.puts[n], change.puts[n + 1]
        local before = call('HGET', messages, message_id)
        if before then
            drop_message(name, new.id, message_id, before)
        end
        local message = message_of(blob)
        local member = message.created .. new.id .. message_id .. '\0' .. name
        call('HSET', messages, message_id, blob)
        call('ZADD', key('outbox', message.state), 0, member)
        if message.address ~= '' then
            call('ZADD', ADDRESSES, 0, message.address .. '\0' .. message.state .. '\0' .. member)
        end
        count(OUTBOX_COUNTS, tenant_of(name) .. '/' .. message.state, 1)
    end
    for _, message_id in ipairs(change.settles) do
        local before = call('HGET', messages, message_id)
        if before then
            drop_message(name, new.id, message_id, before)
        end
    end
end

local verdicts = {}
for n = 1, tonumber(take()) do
    local change = {
        name = take(), expect = take(), floor = take(), value = take(), forget = tonumber(take()),
        entries = take_list(), puts = take_list(), settles = take_list(),
    }
    local stored = call('GET', key('record', change.name))
    local verdict, is_done = check(change, stored)
    if verdict == 'ok' and not is_done then
        apply(change, stored)
    end
    verdicts[n] = verdict
end
return verdicts
