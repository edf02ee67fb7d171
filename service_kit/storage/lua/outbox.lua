-- Reads messages newest first. ARGV: before, the lowest place, how many, tenant ('' for all), list of one address (none:
-- all), list of states. Answers the place to go on from ('' at the end), then member, value, member, value ...
local MOST = 4000 -- members looked at in one call

local before, lowest, limit, tenant = take(), take(), tonumber(take()), take()
local address, states = take_list()[1], take_list()

local sources = {}
for n, state in ipairs(states) do
    if address then
        sources[n] = { set = ADDRESSES, prefix = address .. '\0' .. state .. '\0' }
    else
        sources[n] = { set = key('outbox', state), prefix = '' }
    end
end

local found, looked, place = {}, 0, before
while limit > 0 and looked < MOST do
    local size = limit
    local members = newest(sources, place, lowest, size)
    looked = looked + size
    for _, member in ipairs(members) do
        place = member
        local message_id, name = string.match(string.sub(member, 34), '^(%Z*)%z(.*)$')
        if tenant == '' or tenant_of(name) == tenant then
            found[#found + 1] = member
            found[#found + 1] = call('HGET', key('messages', name), message_id)
            limit = limit - 1
        end
    end
    if #members < size then
        place = ''
        break
    end
end
return { place, found }
