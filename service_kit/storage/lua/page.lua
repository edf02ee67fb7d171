-- Reads records newest first. ARGV: before, how many, whether values are wanted ('1'), the index to walk ('states',
-- 'groups', 'owners') with the text that its members begin with, and filters: tenant ('' for all), list of states
-- (none: all), list of one group, list of one owner (none: all).
-- Answers the place to go on from ('' at the end), then member, value, member, value ...
local MOST = 4000 -- members looked at in one call

local before, limit, with_values = take(), tonumber(take()), take() == '1'
local index, prefix = take(), take()
local tenant, states, group, owner = take(), take_list(), take_list()[1], take_list()[1]
local wanted_states = #states > 0 and set_of(states)

local sources = {}
if index == 'groups' then
    sources[1] = { set = GROUPS, prefix = prefix }
elseif index == 'owners' then
    sources[1] = { set = OWNERS, prefix = prefix }
else
    for _, field in ipairs(call('HKEYS', COUNTS)) do
        local of, state = string.match(field, '^([^/]*)/(.*)$')
        if (tenant == '' or of == tenant) and (not wanted_states or wanted_states[state]) then
            sources[#sources + 1] = { set = key('state', field), prefix = '' }
        end
    end
end

local is_filtered = index ~= 'states' or group or owner

local function fits(name, blob)
    if tenant ~= '' and tenant_of(name) ~= tenant then
        return false
    end
    local record = record_of(blob)
    return (not wanted_states or wanted_states[record.state])
        and (not group or record.group == group)
        and (not owner or record.owner == owner)
end

local found, looked, place = {}, 0, before
while limit > 0 and looked < MOST do
    local size = limit
    local members = newest(sources, place, '', size)
    looked = looked + size
    for _, member in ipairs(members) do
        place = member
        local name = string.sub(member, 18)
        local blob = (with_values or is_filtered) and call('GET', key('record', name))
        if not is_filtered or fits(name, blob) then
            found[#found + 1] = member
            found[#found + 1] = with_values and blob or ''
            limit = limit - 1
        end
    end
    if #members < size then
        place = ''
        break
    end
end
return { place, found }
