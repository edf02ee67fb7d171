-- Answers this server's clock, in milliseconds since the epoch.
local now = call('TIME')
return string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
