-- Executes a batch of operations of the state table, each on one key, atomically.
--
-- KEYS: the Redis key of each operation. ARGV[1]: random, one for each script call.
-- ARGV[2]: the operations, encoded by script.py, each with the number of consecutive
-- keys that it applies to. ARGV[3]: the time, or empty for the server's own clock.
-- Returns the time, and a record for each key.
--
-- The value of a key is a magic byte, a letter, packed numbers, and a token:
--   m first_seen                                                 marked once
--   s first_seen last_seen attempt                               seen
--   c first_seen last_seen attempt lease_until on_abandoned      claimed
-- Its TTL is Redis's own expiry, in whole milliseconds. Redis removes expired values;
-- `read` below checks the TTL, and ignores a value that Redis has not removed yet.

local NEW, RETRY, IN_FLIGHT, DUPLICATE, HELD = 0, 1, 2, 3, 4
local RELEASED, HOLD = 0, 2
local ABANDONED = {[0] = RETRY, RETRY, HELD, DUPLICATE}  -- released, retry, hold, drop
local DONE, STORED, FOREIGN = 1, 2, 4
local FOREVER = -1
local MAGIC = string.char(197)  -- a letter after this byte is invalid UTF-8
local MIN_SIZE = {m = 10, s = 20, c = 29}  -- bytes of a value without its token
local MAX_ATTEMPT = 65535  -- two bytes
local NO_ROW = {first = 0, last = 0, attempt = 0}

local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local index  -- of the current key in KEYS

local function mark_token()  -- identifies a mark of this call
  return ARGV[1] .. index
end

-- Was the row marked by an earlier attempt of this call, whose reply was lost?
local function is_own_mark(row)
  if row.lease or string.sub(row.token, 1, #ARGV[1]) ~= ARGV[1] then return false end
  for earlier = 1, index - 1 do  -- the mark may be that of an earlier operation
    if KEYS[earlier] == KEYS[index] then return row.token == mark_token() end
  end
  return true
end

local function expiry(instant, ttl)
  if ttl < 0 then return nil end
  return math.ceil((instant + ttl) * 1000 - 0.001) / 1000
end

-- Returns the row of a key, nil if there is none or its TTL is over; and whether the
-- value belongs to another program.
local function read(key)
  local value = redis.pcall('GET', key)
  if not value then return nil end
  if type(value) == 'table' then
    if string.sub(value.err, 1, 9) == 'WRONGTYPE' then return nil, true end
    redis.call('GET', key)  -- raises the error
  end
  local kind, row, at = string.sub(value, 2, 2), {}, nil
  local min_size = MIN_SIZE[kind]
  if string.sub(value, 1, 1) ~= MAGIC or not min_size or #value < min_size then
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
    value = MAGIC .. 'c' .. struct.pack('<ddI2dB', row.first, row.last, row.attempt,
      row.lease, row.policy) .. row.token
  elseif row.attempt > 0 or row.last ~= row.first then
    value = MAGIC .. 's' .. struct.pack('<ddI2', row.first, row.last, row.attempt) .. row.token
  else
    value = MAGIC .. 'm' .. struct.pack('<d', row.first) .. row.token
  end
  if row.expires then
    redis.call('SET', key, value, 'PXAT', math.ceil(row.expires * 1000 - 0.001))
  else
    redis.call('SET', key, value)
  end
end

local function verdict_of(row)
  if not row then return NEW end
  if not row.lease then return DUPLICATE end
  if now < row.lease then return IN_FLIGHT end
  return ABANDONED[row.policy]
end

local function marked(row, verdict, ts, ttl)
  if not row then
    return {first = ts, last = ts, attempt = 0, token = '', expires = expiry(ts, ttl)}
  end
  if verdict == DUPLICATE then
    local last = math.max(row.last, ts)
    return {first = row.first, last = last, attempt = row.attempt,
      token = row.lease and '' or row.token, expires = expiry(last, ttl)}
  end
  return {first = math.min(row.first, ts), last = ts, attempt = row.attempt,
    token = '', expires = expiry(ts, ttl)}
end

local function leased(row, op)
  row.lease, row.policy, row.token = now + op.span, op.policy, op.token
  row.expires = nil
  if op.policy ~= HOLD then row.expires = expiry(row.lease, op.ttl) end
  return row
end

local function released(row, lease, ttl)
  row.lease, row.policy, row.expires = lease, RELEASED, expiry(lease, ttl)
  return row
end

local function is_owner(row, op)
  return row and row.lease and row.token == op.token
end

local function is_released(row)  -- its token only recognises a repeated release
  return row.lease and row.policy == RELEASED
end

-- Each returns whether the operation took effect, the row to store, and the verdict if
-- that differs from the state of the key. An operation that an earlier attempt has
-- applied stores its row again: a client that waits for replicas waits for this write.
local transitions = {
  g = function(row)  -- Get
    return false, row
  end,
  m = function(row, op, verdict)  -- Mark
    local ts = op.ts
    if ts < 0 then ts = now end
    return true, marked(row, verdict, ts, op.ttl)
  end,
  k = function(row, op, verdict)  -- CheckAndMark
    if verdict <= RETRY then
      local mark = marked(row, verdict, now, op.ttl)
      mark.token = mark_token()
      return true, mark
    end
    if verdict == DUPLICATE and is_own_mark(row) then
      return true, row, row.attempt > 0 and RETRY or NEW
    end
    return false, row
  end,
  e = function(row, op, verdict)  -- Refresh
    if verdict ~= DUPLICATE then return false, row end
    local mark = marked(row, verdict, now, op.ttl)
    mark.expires = row.expires and mark.expires and math.max(row.expires, mark.expires)
    return true, mark
  end,
  a = function(row, op, verdict)  -- Acquire
    if is_owner(row, op) then
      return true, leased(row, op), row.attempt > 1 and RETRY or NEW
    end
    if verdict <= RETRY then
      local first, attempt = now, 1
      if row then first, attempt = row.first, math.min(row.attempt + 1, MAX_ATTEMPT) end
      return true, leased({first = first, last = now, attempt = attempt}, op)
    end
    return false, row
  end,
  c = function(row, op)  -- Confirm
    if not row or row.token ~= op.token then return false, row end
    if not row.lease then return true, row end
    if is_released(row) then return false, row end
    return true, {first = row.first, last = now, attempt = row.attempt,
      token = row.token, expires = expiry(now, op.ttl)}
  end,
  n = function(row, op)  -- Renew
    if not is_owner(row, op) or is_released(row) then return false, row end
    return true, leased(row, op)
  end,
  r = function(row, op)  -- Release
    if not is_owner(row, op) then return false, row end
    return true, released(row, now + op.span, op.ttl)
  end,
  h = function(row, op, verdict)  -- Resolve(is_handled=True)
    if verdict ~= HELD then return false, row end
    return true, marked(row, verdict, now, op.ttl)
  end,
  u = function(row, op, verdict)  -- Resolve(is_handled=False)
    if verdict ~= HELD then return false, row end
    return true, released(row, now, op.ttl)
  end,
  f = function(row)  -- Forget
    return row ~= nil, nil
  end,
  o = function(row, op, verdict)  -- Cleanup
    if not row or row.last >= now - op.span or verdict == IN_FLIGHT
      or (row.lease and row.policy == HOLD) then return false, row end
    return true, nil
  end,
}

local records = {struct.pack('<d', now)}
local packed, at = ARGV[2], 1
local op, verb, remaining = {}, nil, 0  -- keys of the current operation
for number, key in ipairs(KEYS) do
  index = number
  if remaining == 0 then
    local size
    remaining, verb, op.span, op.ttl, op.ts, op.policy, size, at =
      struct.unpack('<I4c1dddBB', packed, at)
    op.token = string.sub(packed, at, at + size - 1)
    at = at + size
  end
  remaining = remaining - 1
  local row, is_foreign = read(key)
  if is_foreign then
    records[index + 1] = struct.pack('<BBddddI4B', 0, FOREIGN, 0, 0, 0, 0, 0, 0)
  else
    local verdict = verdict_of(row)
    local is_done, stored, corrected = transitions[verb](row, op, verdict)
    if is_done then write(key, stored) end
    local flags = (is_done and DONE or 0) + (stored and STORED or 0)
    stored = stored or NO_ROW
    records[index + 1] = struct.pack('<BBddddI4B', corrected or verdict, flags,
      stored.first, stored.last, stored.expires or FOREVER, stored.lease or FOREVER,
      stored.attempt, stored.policy or RELEASED)
  end
end
return table.concat(records)
