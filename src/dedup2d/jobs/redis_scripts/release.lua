-- Gives a job back for the worker that holds it: pending again, or canceled if that was asked for.

local id, token, delay, why = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local job = find(id)
if not held(job, token) then
  return false
end
go_on_though_full()
if job.fields.cancel_requested == '1' then
  finalize(job, 'canceled', tonumber(job.fields.expires_at) or now, {})
else
  local due = delay > 0 and text(now + delay) or false
  update(job, idle({status = 'pending', next_attempt_at = due, last_error = why or false}))
end
return reply(job)
