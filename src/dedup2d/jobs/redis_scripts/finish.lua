-- Makes a job final for the worker that holds it; status and result appear in this one step.
-- The same outcome from the same worker again, as after a reply that was lost, gives the job as it is.

local id, token, status, ttl, outcome, result = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local job = find(id)
if job and job.fields._outcome == outcome and not expired(job) then
  return reply(job)
end
if not held(job, token) then
  return false
end
go_on_though_full()
local changes = {_outcome = outcome, error_code = false, error = false}
for at = 8, #ARGV, 2 do
  changes[ARGV[at]] = ARGV[at + 1]
end
if result ~= '' then
  redis.call('SET', root .. 'result:' .. id, result)
  changes._result = '1'
end
finalize(job, status, now + ttl, changes)
return reply(job)
