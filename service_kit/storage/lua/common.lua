-- Stands in front of every script. All keys of a call carry the one hash tag that KEYS[1] names, so they are in one
-- slot of a cluster. What a value has to tell a script stands in front of its JSON, in fields that end with a NUL.
local tag = KEYS[1]
local call = redis.call

local function key(kind, name)
    return tag .. ':' .. kind .. ':' .. name
end

local COUNTS, OUTBOX_COUNTS = tag .. ':counts', tag .. ':outbox-counts'
local OWNERS, GROUPS, ADDRESSES = tag .. ':owners', tag .. ':groups', tag .. ':addresses'
local FLOOR = tag .. ':floor'

local at = 0
local function take()
    at = at + 1
    return ARGV[at]
end

local function take_list()
    local list = {}
    for n = 1, tonumber(take()) do
        list[n] = take()
    end
    return list
end

local function set_of(list)
    local set = {}
    for _, value in ipairs(list) do
        set[value] = true
    end
    return set
end

-- A record: version, nonce, id, updated_ms, state, owner, group, token.
local function record_of(blob)
    local version, nonce, id, updated, state, owner, group, token =
        string.match(blob, '^(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)%z')
    return {
        version = version, nonce = nonce, id = id, updated = updated,
        state = state, owner = owner, group = group, token = token,
    }
end

-- A message: state, address, created_ms in hexadecimal, position.
local function message_of(blob)
    local state, address, created, position = string.match(blob, '^(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)%z')
    return { state = state, address = address, created = created, position = tonumber(position) }
end

-- An entry: seq, id, kind.
local function entry_of(blob)
    local seq, id, kind = string.match(blob, '^(%Z*)%z(%Z*)%z(%Z*)%z')
    return { seq = tonumber(seq), id = id, kind = kind }
end

-- The quoted tenant that a name begins with.
local function tenant_of(name)
    return string.match(name, '^([^/]*)/')
end

local function count(counts, field, change)
    if call('HINCRBY', counts, field, change) == 0 then
        call('HDEL', counts, field)
    end
end

-- Tokens have up to 64 bits, which numbers of Lua have not.
local function is_greater(left, right)
    if #left ~= #right then
        return #left > #right
    end
    return left > right
end

-- A Redis without memory refuses a script at its first write that could need some, and lets it go on after any other.
-- What makes room, and what keeps an instance alive, begins with this.
local function insist()
    call('DEL', tag .. ':nothing')
end

local function raise_floor(token)
    insist()
    if is_greater(token, call('GET', FLOOR) or '0') then
        call('SET', FLOOR, token)
    end
end

local ACTIVE = { pending = true, sending = true, retrying = true }

local function drop_message(name, record_id, message_id, blob)
    local old = message_of(blob)
    local member = old.created .. record_id .. message_id .. '\0' .. name
    call('ZREM', key('outbox', old.state), member)
    if old.address ~= '' then
        call('ZREM', ADDRESSES, old.address .. '\0' .. old.state .. '\0' .. member)
    end
    count(OUTBOX_COUNTS, tenant_of(name) .. '/' .. old.state, -1)
    call('HDEL', key('messages', name), message_id)
end

local function index_record(name, new, old)
    local member = new.id .. name
    local tenant = tenant_of(name)
    if not old or old.state ~= new.state then
        call('ZADD', key('state', tenant .. '/' .. new.state), 0, member)
        count(COUNTS, tenant .. '/' .. new.state, 1)
        if old then
            call('ZREM', key('state', tenant .. '/' .. old.state), member)
            call('ZREM', key('changed', old.state), name)
            count(COUNTS, tenant .. '/' .. old.state, -1)
        end
    end
    if not old or old.updated ~= new.updated or old.state ~= new.state then
        call('ZADD', key('changed', new.state), new.updated, name)
    end
    if not old or old.owner ~= new.owner then
        if old and old.owner ~= '' then
            call('ZREM', OWNERS, old.owner .. '\0' .. member)
        end
        if new.owner ~= '' then
            call('ZADD', OWNERS, 0, new.owner .. '\0' .. member)
        end
    end
    if not old or old.group ~= new.group then
        if old and old.group ~= '' then
            call('ZREM', GROUPS, tenant .. '/' .. old.group .. '\0' .. member)
        end
        if new.group ~= '' then
            call('ZADD', GROUPS, 0, tenant .. '/' .. new.group .. '\0' .. member)
        end
    end
end

local function drop_record(name, blob)
    local old = record_of(blob)
    local member = old.id .. name
    local tenant = tenant_of(name)
    local messages = call('HGETALL', key('messages', name))
    for n = 1, #messages, 2 do
        drop_message(name, old.id, messages[n], messages[n + 1])
    end
    call('ZREM', key('state', tenant .. '/' .. old.state), member)
    call('ZREM', key('changed', old.state), name)
    count(COUNTS, tenant .. '/' .. old.state, -1)
    if old.owner ~= '' then
        call('ZREM', OWNERS, old.owner .. '\0' .. member)
    end
    if old.group ~= '' then
        call('ZREM', GROUPS, tenant .. '/' .. old.group .. '\0' .. member)
    end
    call('DEL', key('record', name), key('log', name), key('ids', name), key('messages', name))
end

-- Up to so many members of sorted sets, newest first, that stand before a place. A source is a set and what its
-- members begin with; the answer's have lost that.
local function newest(sources, before, lowest, limit)
    local found = {}
    for _, source in ipairs(sources) do
        local members = call('ZREVRANGEBYLEX', source.set, '(' .. source.prefix .. before,
            '[' .. source.prefix .. lowest, 'LIMIT', 0, limit)
        for _, member in ipairs(members) do
            found[#found + 1] = string.sub(member, #source.prefix + 1)
        end
    end
    if #sources > 1 then
        table.sort(found, function(left, right) return left > right end)
        for n = #found, limit + 1, -1 do
            found[n] = nil
        end
    end
    return found
end
