-- Gives the callback that has been due longest to one sender, passing over the tenants that follow in ARGV.
-- `callbacks` has the tenants that have any, by the first one's time, so the callbacks of those passed over cost nothing.

local token, lease = ARGV[2], tonumber(ARGV[3])
local passed_over = {}
for at = 4, #ARGV do
  passed_over[owner_of(ARGV[at])] = true
end

local function due_owner()
  local from = 0
  repeat
    local some = redis.call(
      'ZRANGEBYSCORE', root .. 'callbacks', '-inf', text(now), 'LIMIT', from, #ARGV
    )
    for _, owner in ipairs(some) do
      if not passed_over[owner] then
        return owner
      end
    end
    from = from + #ARGV
  until #some == 0
end

-- Takes callbacks of the owner until one is due: others have vanished, or should not be there.
local function next_of(owner)
  while true do
    local id = redis.call('ZRANGEBYSCORE', callbacks_of(owner), '-inf', text(now), 'LIMIT', '0', '1')[1]
    if not id then
      renew_owner(owner)
      return nil
    end
    local job = find_with_result(id)
    local due = job and callback_due(job)
    if due and due <= now and not expired(job) then
      return job
    elseif due and due > now then
      redis.call('ZADD', callbacks_of(owner), text(due), id)
    else
      redis.call('ZREM', callbacks_of(owner), id)
    end
  end
end

local owner, job = due_owner(), nil
if not owner then
  return false
end
go_on_though_full()
while owner do
  job = next_of(owner)
  if job then
    break
  end
  owner = due_owner()
end
if not job then
  return false
end
change_callback(job, now + lease, {
  callback_attempts = text((tonumber(job.fields.callback_attempts) or 0) + 1),
  callback_next_attempt_at = false,
  callback_lease_token = token,
  callback_lease_expires_at = text(now + lease),
})
return reply(job)
