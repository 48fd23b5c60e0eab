-- Gives one page of a tenant's jobs, newest first, from the place (created_at, id) downwards, and their total.
-- Expired jobs are first taken out of the tenant's lists (the sweep still finds them), so each list holds
-- what it says, and a page is read from where it begins.

local tenant = root .. 'tenant:' .. owner_of(ARGV[2]) .. ':'
local listed, limit = tenant .. ARGV[3], tonumber(ARGV[4])
local before_score, before_id = ARGV[5], ARGV[6]

repeat
  local gone = redis.call('ZRANGEBYSCORE', tenant .. 'expiry', '-inf', '(' .. text(now), 'LIMIT', '0', '1000')
  if #gone > 0 then
    for _, name in ipairs({'jobs', 'completed', 'failed', 'canceled', 'expiry'}) do
      redis.call('ZREM', tenant .. name, unpack(gone))
    end
  end
until #gone == 0

local function fits(id, score)
  return not before_id or tonumber(score) ~= tonumber(before_score) or less(id, before_id)
end

local page, vanished, from = {}, {}, 0
repeat
  local some = redis.call(
    'ZREVRANGEBYSCORE', listed, before_score or '+inf', '-inf', 'WITHSCORES', 'LIMIT', from, limit
  )
  for at = 1, #some, 2 do
    local id, score = some[at], some[at + 1]
    if #page < limit and fits(id, score) then
      local job = find(id)
      if job then
        page[#page + 1] = {score, reply(job)}
      else
        vanished[#vanished + 1] = id
      end
    end
  end
  from = from + limit
until #some == 0 or #page >= limit

for _, id in ipairs(vanished) do
  redis.call('ZREM', tenant .. 'jobs', id)
  redis.call('ZREM', listed, id)
end
return {redis.call('ZCARD', listed), page}
