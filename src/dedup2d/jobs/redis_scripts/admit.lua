-- Takes a job in, or says why not; looks at the idempotency key first, then at the id, then at places.
-- The same call again, as after a reply that was lost, is the same admission.

local id, tenant, call, digest, payload = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local max_jobs, max_jobs_of_tenant, max_callbacks = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local owner = owner_of(tenant)
local mine = root .. 'tenant:' .. owner .. ':'

if digest ~= '' then
  local known = redis.call('GET', idempotency_key(owner, digest))
  local job = known and find_with_result(known)
  if job and job.fields.tenant_id == tenant and not expired(job) then
    return {'known', reply(job)}
  end
end

local admitted = redis.call('HMGET', root .. 'job:' .. id, '_call', 'status')
if admitted[2] then
  return {admitted[1] == call and 'admitted' or 'taken'}
end
if redis.call('ZCARD', root .. 'active') >= max_jobs then
  return {'full'}
end
if redis.call('ZCARD', mine .. 'pending') + redis.call('ZCARD', mine .. 'in_progress') >= max_jobs_of_tenant then
  return {'tenant full'}
end
if max_callbacks >= 0 and redis.call('ZCARD', callbacks_of(owner)) >= max_callbacks then
  return {'callbacks full'}
end

local job = {id = id, fields = {}, payload = payload}
local changes = {_call = call, _key = digest ~= '' and digest or nil}
for at = 10, #ARGV, 2 do
  changes[ARGV[at]] = ARGV[at + 1]
end
-- This write comes first: it is the one that Redis refuses while its memory is full.
redis.call('SET', root .. 'payload:' .. id, payload)
-- What is left of a job of this id that has partly vanished is not of this one.
redis.call('DEL', root .. 'job:' .. id, root .. 'result:' .. id)
update(job, changes)
redis.call('ZADD', mine .. 'jobs', changes.created_at, id)
if digest ~= '' then
  -- Kept until the job expires; the time to live is for keys of jobs that Redis dropped.
  redis.call('SET', idempotency_key(owner, digest), id, 'PX', '2592000000')
end
return {'admitted'}
