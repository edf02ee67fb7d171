-- Lets an instance act from now on. ARGV: instance, how many milliseconds. Answers until when.
insist()
local instance, lasts = take(), tonumber(take())
local now = call('TIME')
local till = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + lasts)
call('HSET', tag .. ':leases', instance, till)
return till
