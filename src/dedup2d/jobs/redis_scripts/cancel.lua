-- Cancels a job that waits, marks one that runs, leaves a final one as it is.

local id, tenant, ttl = ARGV[2], ARGV[3], tonumber(ARGV[4])
local job = find_with_result(id)
if not job or expired(job) or job.fields.tenant_id ~= tenant then
  return false
end
go_on_though_full()
if job.fields.status == 'in_progress' then
  update(job, {cancel_requested = '1', expires_at = text(now + ttl)})
elseif job.fields.status == 'pending' then
  finalize(job, 'canceled', now + ttl, {cancel_requested = '1'})
end
return reply(job)
