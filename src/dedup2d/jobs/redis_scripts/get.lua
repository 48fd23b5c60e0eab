-- Gives a job and its result as they are at one moment, or nothing if it is gone or another tenant's.

local job, tenant = find_with_result(ARGV[2]), ARGV[3]
if not job or expired(job) or (tenant and job.fields.tenant_id ~= tenant) then
  return false
end
return reply(job)
