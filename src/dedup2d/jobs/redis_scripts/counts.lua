-- Counts what waits and runs, and gives the place in time of the oldest that waits.

return {
  redis.call('ZCARD', root .. 'pending'),
  redis.call('ZCARD', root .. 'running'),
  redis.call('ZRANGE', root .. 'pending', '0', '0', 'WITHSCORES'),
}
