-- Gives a job to one worker: the one asked for, or the oldest that is ready in the lanes asked for.
-- Looks at the first of each lane only. Two workers never get the same job.

local token, lease, wanted = ARGV[2], tonumber(ARGV[3]), ARGV[4]

local function lane_wanted(job)
  for at = 5, #ARGV do
    if ARGV[at] == (job.fields.lane or 'main') then
      return true
    end
  end
  return false
end

local function claimable(job)
  local due = tonumber(job.fields.next_attempt_at) or now
  return job.fields.status == 'pending' and due <= now and lane_wanted(job)
end

-- The lane whose first job is the oldest, and that job's member.
local function oldest()
  local lane, member, score
  for at = 5, #ARGV do
    local first = redis.call('ZRANGE', root .. 'ready:' .. ARGV[at], '0', '0', 'WITHSCORES')
    if #first > 0 then
      local created_at = tonumber(first[2])
      if not lane or created_at < score or (created_at == score and less(first[1], member)) then
        lane, member, score = ARGV[at], first[1], created_at
      end
    end
  end
  return lane, member
end

-- Takes ready members until one is a job that waits: others have vanished, or should not be there.
local function next_ready()
  while true do
    local lane, member = oldest()
    if not lane then
      return nil
    end
    local id, owner = split(member)
    local job = find(id)
    redis.call('ZREM', root .. 'ready:' .. lane, member)
    if not job then
      drop(id, owner, lane)
    elseif claimable(job) then
      return job
    else
      index(job)
    end
  end
end

promote()
local job
if wanted == '' then
  job = next_ready()
else
  job = find(wanted)
end
if not job or not claimable(job) then
  return false
end
go_on_though_full()
update(job, {
  status = 'in_progress',
  attempts = text((tonumber(job.fields.attempts) or 0) + 1),
  started_at = job.fields.started_at or text(now),
  next_attempt_at = false,
  progress = false,
  lease_token = token,
  lease_expires_at = text(now + lease),
})
return reply(job)
