-- Lets a final job's callback be sent now; says why not where that cannot be.

local id, tenant = ARGV[2], ARGV[3]
local job = find(id)
if not job or expired(job) or job.fields.tenant_id ~= tenant then
  return {'gone'}
end
local fields = job.fields
if not fields.callback_status then
  return {'none'}
elseif not FINAL[fields.status] then
  return {'not final'}
end
if not fields.callback_lease_token then
  go_on_though_full()
  local changes = {callback_next_attempt_at = text(now)}
  if fields.callback_status ~= 'pending' then
    changes.callback_status, changes.callback_attempts, changes.callback_finished_at = 'pending', '0', false
  end
  change_callback(job, now, changes)
end
return {'again', reply(job)}
