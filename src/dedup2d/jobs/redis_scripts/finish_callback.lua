-- Ends a callback for the sender that holds it; from now on the job lives as long as any that is final.

local id, token, status, ttl = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local job = find(id)
if not job or job.fields.callback_lease_token ~= token then
  return false
end
go_on_though_full()
update(job, unleased({
  callback_status = status,
  callback_http_status = given(ARGV[6]),
  callback_last_error = given(ARGV[7]),
  callback_finished_at = text(now),
  expires_at = text(now + ttl),
}))
set_time_to_live(job)
return reply(job)
