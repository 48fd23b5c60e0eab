-- Counts the jobs whose time is over and that no sweep has deleted yet.

return redis.call('ZCOUNT', root .. 'expiry', '-inf', '(' .. text(now))
