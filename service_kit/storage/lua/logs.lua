-- Reads entries above a number. ARGV: how many in all, list of kinds (none: all), how many records; for each: name, after.
-- Answers a list of entries' values for each.
local left, kinds = tonumber(take()), take_list()
local wanted = #kinds > 0 and set_of(kinds)
local answer = {}
for n = 1, tonumber(take()) do
    local log, after = key('log', take()), tonumber(take())
    local found = {}
    local first = left > 0 and call('LINDEX', log, 0)
    if first then
        local start = math.max(0, after - entry_of(first).seq + 1)
        local size = left
        local part = call('LRANGE', log, start, start + size - 1)
        while #part > 0 and left > 0 do
            for _, blob in ipairs(part) do
                if left > 0 and (not wanted or wanted[entry_of(blob).kind]) then
                    found[#found + 1] = blob
                    left = left - 1
                end
            end
            start = start + size
            part = left > 0 and #part == size and call('LRANGE', log, start, start + size - 1) or {}
        end
    end
    answer[n] = found
end
return answer
