-- What all scripts begin with.
--
-- KEYS[1] begins every key ("dedup2d:"); ARGV[1] is the Unix time, or empty for Redis' own.
-- A job is {id, fields of its hash, payload}. Values are texts; numbers have 17 digits, which keeps them exact.
-- `owner` is a tenant's id as it stands in keys. Members of the indexes of all tenants are "job_id owner".

local root = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- Records outlive their expiry by an hour for the sweep to find them, then Redis drops them by itself.
local NET_SECONDS = 3600
local LONGEST_SECONDS = 10 * 365 * 86400
-- A job is kept so long after its callback should have been tried (KEEP_SECONDS of dedup2d.jobs.callback_steps).
local CALLBACK_KEEP_SECONDS = 86400
local FINAL = {completed = true, failed = true, canceled = true}
local OF_ALL = {'active', 'pending', 'delayed', 'running', 'expiry'}
local OF_STATE = {pending = {'active', 'pending', 'delayed'}, in_progress = {'active', 'running'}}
local OF_TENANT = {'pending', 'in_progress', 'completed', 'failed', 'canceled', 'expiry'}

local function text(number)
  return string.format('%.17g', number)
end

local function owner_of(tenant)
  return (tenant:gsub('[^%w_.~-]', function(char)
    return string.format('%%%02X', char:byte())
  end))
end

-- While its memory is full, Redis refuses what needs more, but only before the first write of a script: none is
-- stopped half-way. New jobs are to be refused then; those that are in are to go on, so that memory gets free again.
-- Hence all scripts but `admit` begin to write with this, which needs no memory.
local function go_on_though_full()
  redis.call('DEL', root .. 'none')
end

local function split(member)
  return member:match('^(.*) ([^ ]*)$')
end

-- By bytes, as sorted sets do; Lua's own comparison goes by the server's locale.
local function less(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = a:byte(at), b:byte(at)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- The job, or nil if a part that makes it one is not there (any more).
local function find(id)
  local flat = redis.call('HGETALL', root .. 'job:' .. id)
  local job = {id = id, fields = {}, payload = redis.call('GET', root .. 'payload:' .. id)}
  for at = 1, #flat, 2 do
    job.fields[flat[at]] = flat[at + 1]
  end
  local fields = job.fields
  local whole = job.payload and fields.tenant_id and fields.status and tonumber(fields.created_at)
  return whole and job or nil
end

-- The same with its result, which must be there if the job has one.
local function find_with_result(id)
  local job = find(id)
  if job and job.fields._result then
    job.result = redis.call('GET', root .. 'result:' .. id)
    return job.result and job or nil
  end
  return job
end

-- One text for all fields: clients read one much faster than dozens.
local function reply(job)
  return {job.id, cjson.encode(job.fields), job.payload, job.result or false}
end

local function expired(job)
  local expires_at = tonumber(job.fields.expires_at)
  return FINAL[job.fields.status] and expires_at and now > expires_at
end

local function held(job, token)
  return job and job.fields.status == 'in_progress' and job.fields.lease_token == token
end

-- When the callback is to be claimed next: its time or, while somebody sends it, the end of that lease.
local function callback_due(job)
  local fields = job.fields
  if not FINAL[fields.status] or fields.callback_status ~= 'pending' then
    return nil
  end
  return tonumber(fields.callback_lease_token and fields.callback_lease_expires_at or fields.callback_next_attempt_at)
end

local function callbacks_of(owner)
  return root .. 'tenant:' .. owner .. ':callbacks'
end

-- Puts the tenant where its first callback belongs, or nowhere.
local function renew_owner(owner)
  local first = redis.call('ZRANGE', callbacks_of(owner), '0', '0', 'WITHSCORES')
  if #first > 0 then
    redis.call('ZADD', root .. 'callbacks', first[2], owner)
  else
    redis.call('ZREM', root .. 'callbacks', owner)
  end
end

local function unindex_callback(id, owner)
  if redis.call('ZREM', callbacks_of(owner), id) == 1 then
    renew_owner(owner)
  end
end

local function index_callback(job, owner)
  local due = callback_due(job)
  if due then
    redis.call('ZADD', callbacks_of(owner), text(due), job.id)
    renew_owner(owner)
  else
    unindex_callback(job.id, owner)
  end
end

-- Takes the job out of the indexes of one state, or of all where it is not known where it stands.
local function unindex(id, owner, lane, status)
  local member = id .. ' ' .. owner
  for _, name in ipairs(OF_STATE[status] or OF_ALL) do
    redis.call('ZREM', root .. name, member)
  end
  for _, name in ipairs(status and {status} or OF_TENANT) do
    redis.call('ZREM', root .. 'tenant:' .. owner .. ':' .. name, id)
  end
  if status ~= 'in_progress' then
    redis.call('ZREM', root .. 'ready:' .. (lane or 'main'), member)
  end
end

-- Puts the job into the indexes of its state, and out of those of the state before, or of all others.
local function index(job, before)
  local fields, owner = job.fields, owner_of(job.fields.tenant_id)
  local member, tenant = job.id .. ' ' .. owner, root .. 'tenant:' .. owner .. ':'
  local lane = fields.lane or 'main'
  if before ~= 'new' then
    unindex(job.id, owner, lane, before)
  end
  redis.call('ZADD', tenant .. fields.status, fields.created_at, job.id)
  if FINAL[fields.status] then
    local expires_at = fields.expires_at or text(now)
    redis.call('ZADD', root .. 'expiry', expires_at, member)
    redis.call('ZADD', tenant .. 'expiry', expires_at, job.id)
    index_callback(job, owner)
    return
  end
  redis.call('ZADD', root .. 'active', fields.created_at, member)
  if fields.status == 'in_progress' then
    redis.call('ZADD', root .. 'running', fields.lease_expires_at or text(now), member)
    return
  end
  redis.call('ZADD', root .. 'pending', fields.created_at, member)
  if fields.next_attempt_at and tonumber(fields.next_attempt_at) > now then
    redis.call('ZADD', root .. 'delayed', fields.next_attempt_at, member)
  else
    redis.call('ZADD', root .. 'ready:' .. lane, fields.created_at, member)
  end
end

-- Writes the changes, of which `false` takes a field away, and indexes the job anew.
local function update(job, changes)
  local before = job.fields.status or 'new'
  local set, gone = {}, {}
  for field, value in pairs(changes) do
    if value then
      set[#set + 1] = field
      set[#set + 1] = value
    else
      gone[#gone + 1] = field
    end
    job.fields[field] = value or nil
  end
  redis.call('HSET', root .. 'job:' .. job.id, unpack(set))
  if #gone > 0 then
    redis.call('HDEL', root .. 'job:' .. job.id, unpack(gone))
  end
  index(job, before)
end

-- The changes that end a lease, added to those given.
local function idle(changes)
  for _, field in ipairs({'lease_token', 'lease_expires_at', 'next_attempt_at', 'progress', 'last_error'}) do
    changes[field] = changes[field] or false
  end
  return changes
end

local function idempotency_key(owner, digest)
  return root .. 'tenant:' .. owner .. ':key:' .. digest
end

-- Lets Redis drop the keys of a final job by itself, in case that nobody sweeps.
local function set_time_to_live(job)
  local expires_at = tonumber(job.fields.expires_at) or now
  local seconds = math.min(math.max(expires_at - now, 0), LONGEST_SECONDS) + NET_SECONDS
  local keys = {root .. 'job:' .. job.id, root .. 'payload:' .. job.id, root .. 'result:' .. job.id}
  if job.fields._key then
    keys[4] = idempotency_key(owner_of(job.fields.tenant_id), job.fields._key)
  end
  for _, key in ipairs(keys) do
    redis.call('PEXPIRE', key, string.format('%.0f', seconds * 1000))
  end
end

-- Makes the job final, from when on its callback waits.
local function finalize(job, status, expires_at, changes)
  if job.fields.callback_status == 'pending' then
    expires_at = math.max(expires_at, now + CALLBACK_KEEP_SECONDS)
    changes.callback_next_attempt_at = text(now)
  end
  changes.status, changes.finished_at, changes.expires_at = status, text(now), text(expires_at)
  update(job, idle(changes))
  set_time_to_live(job)
end

-- Writes the changes of a callback that is due at the time given, beyond which its job is kept.
local function change_callback(job, due, changes)
  local kept = due + CALLBACK_KEEP_SECONDS
  if (tonumber(job.fields.expires_at) or 0) < kept then
    changes.expires_at = text(kept)
  end
  update(job, changes)
  set_time_to_live(job)
end

-- The changes that end the lease of a callback, added to those given.
local function unleased(changes)
  for _, field in ipairs({'callback_lease_token', 'callback_lease_expires_at', 'callback_next_attempt_at'}) do
    changes[field] = changes[field] or false
  end
  return changes
end

-- What an argument says; one that is missing or empty takes the field away.
local function given(argument)
  return argument and argument ~= '' and argument or false
end

-- Deletes what there is of a job; `job` is nil if its record is not there.
local function drop(id, owner, lane, job)
  unindex(id, owner, lane)
  unindex_callback(id, owner)
  redis.call('ZREM', root .. 'tenant:' .. owner .. ':jobs', id)
  redis.call('DEL', root .. 'job:' .. id, root .. 'payload:' .. id, root .. 'result:' .. id)
  local digest = job and job.fields._key
  -- A newer job may have taken the key since this one expired.
  if digest and redis.call('GET', idempotency_key(owner, digest)) == id then
    redis.call('DEL', idempotency_key(owner, digest))
  end
end

-- Makes the jobs ready whose delay is over. Each is moved once, so waiting jobs cost nothing here.
local function promote()
  local due
  repeat
    due = redis.call('ZRANGEBYSCORE', root .. 'delayed', '-inf', text(now), 'LIMIT', '0', '100')
    for _, member in ipairs(due) do
      local id, owner = split(member)
      local job = find(id)
      redis.call('ZREM', root .. 'delayed', member)
      if job then
        index(job)
      else
        drop(id, owner)
      end
    end
  until #due == 0
end
