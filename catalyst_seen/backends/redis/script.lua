-- Carries out a batch of operations on the state table, each on one key.
--
-- KEYS: the name of each operation's key. ARGV[1]: random, one for each batch. ARGV[2]:
-- the operations, as script.py packs them, each with the number of consecutive keys that
-- it is for. ARGV[3]: the time, or empty for the server's own clock. Returns the time,
-- and a record for each key.
--
-- What is stored of a key is a byte that begins no text, a letter, then packed numbers,
-- then a token:
--   m first_seen                                                 marked once
--   s first_seen last_seen attempt                               seen
--   c first_seen last_seen attempt lease_until on_abandoned      claimed
-- Its time to live is Redis's own, in whole milliseconds.

local NEW, RETRY, IN_FLIGHT, DUPLICATE, HELD = 0, 1, 2, 3, 4
local RELEASED, HOLD = 0, 2
local ABANDONED = {[0] = RETRY, RETRY, HELD, DUPLICATE}  -- released, retry, hold, drop
local DONE, STORED, FOREIGN = 1, 2, 4
local FOREVER = -1
local OURS = string.char(197)  -- not followed by a letter, in any UTF-8
local LEAST = {m = 10, s = 20, c = 29}  -- bytes in a value without its token
local MOST = 65535  -- attempts are counted as far as two bytes go
local NOTHING = {first = 0, last = 0, attempt = 0}

local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local place  -- of the key in the batch

local function own()  -- the id of a mark that is made here
  return ARGV[1] .. place
end

local function is_own(row)  -- is it the mark of an earlier attempt at this batch?
  if row.lease or string.sub(row.token, 1, #ARGV[1]) ~= ARGV[1] then return false end
  for before = 1, place - 1 do  -- if it is not of the batch's earlier operations
    if KEYS[before] == KEYS[place] then return row.token == own() end
  end
  return true
end

local function after(instant, ttl)
  if ttl < 0 then return nil end
  return math.ceil((instant + ttl) * 1000 - 0.001) / 1000
end

local function read(key)
  local value = redis.pcall('GET', key)
  if not value then return nil end
  if type(value) == 'table' then
    if string.sub(value.err, 1, 9) == 'WRONGTYPE' then return nil, true end
    redis.call('GET', key)  -- raises it
  end
  local kind, row, at = string.sub(value, 2, 2), {}, nil
  local least = LEAST[kind]
  if string.sub(value, 1, 1) ~= OURS or not least or #value < least then
    return nil, true
  end
  if kind == 'm' then
    row.first, at = struct.unpack('<d', value, 3)
    row.last, row.attempt = row.first, 0
  elseif kind == 's' then
    row.first, row.last, row.attempt, at = struct.unpack('<ddI2', value, 3)
  else
    row.first, row.last, row.attempt, row.lease, row.policy, at =
      struct.unpack('<ddI2dB', value, 3)
  end
  row.token = string.sub(value, at)
  local expires = redis.call('PEXPIRETIME', key)
  if expires >= 0 then
    row.expires = expires / 1000
    if row.expires <= now then return nil end
  end
  return row
end

local function write(key, row)
  if not row or (row.expires and row.expires <= now) then
    redis.call('DEL', key)
    return
  end
  local value
  if row.lease then
    value = OURS .. 'c' .. struct.pack('<ddI2dB', row.first, row.last, row.attempt,
      row.lease, row.policy) .. row.token
  elseif row.attempt > 0 or row.last ~= row.first then
    value = OURS .. 's' .. struct.pack('<ddI2', row.first, row.last, row.attempt) .. row.token
  else
    value = OURS .. 'm' .. struct.pack('<d', row.first) .. row.token
  end
  if row.expires then
    redis.call('SET', key, value, 'PXAT', math.ceil(row.expires * 1000 - 0.001))
  else
    redis.call('SET', key, value)
  end
end

local function judge(row)
  if not row then return NEW end
  if not row.lease then return DUPLICATE end
  if now < row.lease then return IN_FLIGHT end
  return ABANDONED[row.policy]
end

local function marked(row, verdict, ts, ttl)
  if not row then
    return {first = ts, last = ts, attempt = 0, token = '', expires = after(ts, ttl)}
  end
  if verdict == DUPLICATE then
    local last = math.max(row.last, ts)
    return {first = row.first, last = last, attempt = row.attempt,
      token = row.lease and '' or row.token, expires = after(last, ttl)}
  end
  return {first = math.min(row.first, ts), last = ts, attempt = row.attempt,
    token = '', expires = after(ts, ttl)}
end

local function leased(row, op)
  row.lease, row.policy, row.token = now + op.span, op.policy, op.token
  row.expires = nil
  if op.policy ~= HOLD then row.expires = after(row.lease, op.ttl) end
  return row
end

local function released(row, lease, ttl)
  row.lease, row.policy, row.expires = lease, RELEASED, after(lease, ttl)
  return row
end

local function is_owner(row, op)
  return row and row.lease and row.token == op.token
end

-- Each tells whether it is done, and what is stored then. One that finds that it was
-- done before, when the client did not learn of it, stores the same again: a client
-- that waits for replicas waits for what it has written.
local verbs = {
  l = function(row)
    return false, row
  end,
  m = function(row, op, verdict)
    local ts = op.ts
    if ts < 0 then ts = now end
    return true, marked(row, verdict, ts, op.ttl)
  end,
  k = function(row, op, verdict)
    if verdict <= RETRY then
      local mark = marked(row, verdict, now, op.ttl)
      mark.token = own()
      return true, mark
    end
    if verdict == DUPLICATE and is_own(row) then
      return true, row, row.attempt > 0 and RETRY or NEW
    end
    return false, row
  end,
  t = function(row, op, verdict)
    if row and row.lease and row.token == op.token then
      return true, leased(row, op), row.attempt > 1 and RETRY or NEW
    end
    if verdict <= RETRY then
      local first, attempt = now, 1
      if row then first, attempt = row.first, math.min(row.attempt + 1, MOST) end
      return true, leased({first = first, last = now, attempt = attempt}, op)
    end
    return false, row
  end,
  c = function(row, op)
    if not row or row.token ~= op.token then return false, row end
    if not row.lease then return true, row end
    return true, {first = row.first, last = now, attempt = row.attempt,
      token = row.token, expires = after(now, op.ttl)}
  end,
  n = function(row, op)
    if not is_owner(row, op) then return false, row end
    return true, leased(row, op)
  end,
  r = function(row, op)
    if not is_owner(row, op) then return false, row end
    return true, released(row, now + op.span, op.ttl)
  end,
  h = function(row, op, verdict)
    if verdict ~= HELD then return false, row end
    return true, marked(row, verdict, now, op.ttl)
  end,
  u = function(row, op, verdict)
    if verdict ~= HELD then return false, row end
    return true, released(row, now, op.ttl)
  end,
  f = function(row)
    return row ~= nil, nil
  end,
  o = function(row, op, verdict)  -- remove if old, for a cleanup
    if not row or row.last >= now - op.span or verdict == IN_FLIGHT
      or (row.lease and row.policy == HOLD) then return false, row end
    return true, nil
  end,
}

local records = {struct.pack('<d', now)}
local packed, at = ARGV[2], 1
local op, verb, left = {}, nil, 0
for number, key in ipairs(KEYS) do
  place = number
  if left == 0 then
    local size
    left, verb, op.span, op.ttl, op.ts, op.policy, size, at =
      struct.unpack('<I4c1dddBB', packed, at)
    op.token = string.sub(packed, at, at + size - 1)
    at = at + size
  end
  left = left - 1
  local row, is_foreign = read(key)
  if is_foreign then
    records[place + 1] = struct.pack('<BBddddI4B', 0, FOREIGN, 0, 0, 0, 0, 0, 0)
  else
    local verdict = judge(row)
    local is_done, stored, earlier = verbs[verb](row, op, verdict)
    if is_done then write(key, stored) end
    local flags = (is_done and DONE or 0) + (stored and STORED or 0)
    stored = stored or NOTHING
    records[place + 1] = struct.pack('<BBddddI4B', earlier or verdict, flags,
      stored.first, stored.last, stored.expires or FOREVER, stored.lease or FOREVER,
      stored.attempt, stored.policy or RELEASED)
  end
end
return table.concat(records)
