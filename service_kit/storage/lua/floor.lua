-- Raises the token floor, unless it is higher already. ARGV: token. Answers the floor.
raise_floor(take())
return call('GET', FLOOR) or '0'
