-- Takes away leases that ran out and deletes expired jobs, so many of each at most, and gives what is ready.
-- Each call is whole in itself. The lock only spares workers from doing the same at once: who does not
-- get it is given what is ready, which a sweeper that died may not have woken.

local token, lock_milliseconds = ARGV[2], ARGV[3]
local lost_limit, expired_limit, ready_limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local max_losses, ttl, lost_reason, failed_reason = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], ARGV[10]

local function lose(job)
  local losses = (tonumber(job.fields.losses) or 0) + 1
  local changes = {losses = text(losses)}
  if job.fields.cancel_requested == '1' then
    finalize(job, 'canceled', now + ttl, changes)
  elseif losses < max_losses then
    changes.status, changes.last_error = 'pending', lost_reason
    update(job, idle(changes))
  else
    changes.error_code, changes.error = 'WORKER_LOST', failed_reason
    finalize(job, 'failed', now + ttl, changes)
  end
end

local function take_lost(found)
  local members = redis.call('ZRANGEBYSCORE', root .. 'running', '-inf', '(' .. text(now), 'LIMIT', '0', lost_limit)
  for _, member in ipairs(members) do
    local id, owner = split(member)
    local job = find(id)
    redis.call('ZREM', root .. 'running', member)
    if not job then
      drop(id, owner)
    elseif job.fields.status ~= 'in_progress' or (tonumber(job.fields.lease_expires_at) or 0) >= now then
      index(job)
    else
      lose(job)
      found.lost = found.lost + 1
      if job.fields.status == 'failed' then
        found.failed[#found.failed + 1] = reply(job)
      end
    end
  end
  return #members
end

local function take_expired(found)
  local members =
    redis.call('ZRANGEBYSCORE', root .. 'expiry', '-inf', '(' .. text(now), 'LIMIT', '0', expired_limit)
  for _, member in ipairs(members) do
    local id, owner = split(member)
    local job = find(id)
    redis.call('ZREM', root .. 'expiry', member)
    if job and not expired(job) then
      index(job)
    else
      if job then
        found.expired[#found.expired + 1] = reply(job)
      end
      drop(id, owner, nil, job)
    end
  end
  return #members
end

local function ready(found)
  for at = 11, #ARGV do
    local lane = root .. 'ready:' .. ARGV[at]
    found[#found + 1] = redis.call('ZRANGE', lane, '0', ready_limit - 1, 'WITHSCORES')
  end
  return found
end

local function locked()
  local lock = root .. 'sweeping'
  local holder = redis.call('GET', lock)
  if holder and holder ~= token then
    return false
  end
  redis.call('SET', lock, token, 'PX', lock_milliseconds)
  return true
end

go_on_though_full()
promote()
local found = {lost = 0, failed = {}, expired = {}}
local lost_seen, expired_seen = 0, 0
if locked() then
  lost_seen, expired_seen = take_lost(found), take_expired(found)
  if lost_seen < lost_limit and expired_seen < expired_limit then
    redis.call('DEL', root .. 'sweeping')
  end
end
return {lost_seen, expired_seen, found.lost, found.failed, found.expired, ready({})}
