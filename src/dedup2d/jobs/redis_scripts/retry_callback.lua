-- Gives a callback back for the sender that holds it, to be tried again after a delay.

local id, token, delay, attempted = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local job = find(id)
if not job or job.fields.callback_lease_token ~= token then
  return false
end
go_on_though_full()
local due = now + math.max(delay, 0)
local changes = unleased({callback_next_attempt_at = text(due)})
if attempted then
  changes.callback_http_status, changes.callback_last_error = given(ARGV[6]), given(ARGV[7])
else
  changes.callback_attempts = text((tonumber(job.fields.callback_attempts) or 1) - 1)
end
change_callback(job, due, changes)
return reply(job)
