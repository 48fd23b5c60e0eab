-- Extends the lease of the worker that holds the job, and says whether a cancel is wanted.

local id, token, lease, progress = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local key = root .. 'job:' .. id
local found = redis.call('HMGET', key, 'status', 'lease_token', 'cancel_requested', 'tenant_id')
if found[1] ~= 'in_progress' or found[2] ~= token or not found[4] then
  return false
end
local ends = text(now + lease)
go_on_though_full()
redis.call('HSET', key, 'lease_expires_at', ends)
if progress then
  redis.call('HSET', key, 'progress', progress)
end
redis.call('ZADD', root .. 'running', ends, id .. ' ' .. owner_of(found[4]))
return found[3] or '0'
