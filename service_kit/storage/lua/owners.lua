-- Answers every owner of a record, once.
local owners, place = {}, '-'
while true do
    local member = call('ZRANGEBYLEX', OWNERS, place, '+', 'LIMIT', 0, 1)[1]
    if not member then
        return owners
    end
    local owner = string.match(member, '^(%Z*)%z')
    owners[#owners + 1] = owner
    place = '(' .. owner .. '\1'
end
