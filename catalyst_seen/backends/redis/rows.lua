-- Reads and writes the rows of keys; the first part of the script.
--
-- ARGV[3]: the time, or empty for the server's own clock.
--
-- The value of a key is a magic byte, a letter, packed numbers, and a token:
--   m first_seen                                                 marked once
--   s first_seen last_seen attempt                               seen
--   c first_seen last_seen attempt lease_until on_abandoned      claimed
-- A capital letter instead means that a note follows the token, whose length is in the
-- byte before it.
-- Its TTL is Redis's own expiry, in whole milliseconds. Redis removes expired values;
-- `read` below checks the TTL, and ignores a value that Redis has not removed yet.

local REFUSALS = {OOM = 0, MISCONF = 1, NOREPLICAS = 2}  -- of a write, before it is done
local MAGIC = string.char(197)  -- a letter after this byte is invalid UTF-8
local MIN_SIZE = {m = 10, s = 20, c = 29, M = 11, S = 21, C = 30}  -- without the token
local HEAD = 285  -- bytes of the longest value without its note

local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function milliseconds(instant)
  return math.ceil(instant * 1000 - 0.001)
end

local function expiry(instant, ttl)
  if ttl < 0 then return nil end
  return milliseconds(instant + ttl) / 1000
end

-- Returns the row in a value, or in its first `HEAD` bytes, but without the note, which
-- begins at `note_at`; nil if the value belongs to another program.
local function parse(value)
  local kind, row, at = string.sub(value, 2, 2), {}, nil
  local min_size = MIN_SIZE[kind]
  if string.sub(value, 1, 1) ~= MAGIC or not min_size or #value < min_size then
    return nil
  end
  if kind == 'm' or kind == 'M' then
    row.first, at = struct.unpack('<d', value, 3)
    row.last, row.attempt = row.first, 0
  elseif kind == 's' or kind == 'S' then
    row.first, row.last, row.attempt, at = struct.unpack('<ddI2', value, 3)
  else
    row.first, row.last, row.attempt, row.lease, row.policy, at =
      struct.unpack('<ddI2dB', value, 3)
  end
  if kind >= 'a' then
    row.token = string.sub(value, at)
  else
    row.note_at = at + 1 + string.byte(value, at)
    row.token = string.sub(value, at + 1, row.note_at - 1)
  end
  return row
end

-- Returns the row of a key, nil if there is none or its TTL is over; whether the value
-- belongs to another program; and whether there is no value, or an empty one.
local function read(key)
  local value = redis.pcall('GETRANGE', key, 0, HEAD - 1)  -- a note may be long
  if value == '' then return nil, false, true end
  if type(value) == 'table' then
    if string.sub(value.err, 1, 9) == 'WRONGTYPE' then return nil, true end
    redis.call('GETRANGE', key, 0, 0)  -- raises the error
  end
  local row = parse(value)
  if not row then return nil, true end
  local expires = redis.call('PEXPIRETIME', key)
  if expires >= 0 then
    row.expires = expires / 1000
    if row.expires <= now then return nil end
  end
  return row
end

local function read_note(key, row)
  return row.note_at and redis.call('GETRANGE', key, row.note_at - 1, -1)
end

-- Executes a command that writes. Returns the number of the refusal, nil if it is done:
-- a server that is full refuses the write of one key, and the others are answered. Also
-- returns whether the command was not executed because there is a value already.
local function execute(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return nil, reply == false end
  local refusal = REFUSALS[string.match(reply.err, '^%-?(%u+)') or '']
  if not refusal then redis.call(...) end  -- raises the error
  return refusal
end

local function pack(row, note)
  local kind, numbers
  if row.lease then
    kind, numbers = 'c', struct.pack('<ddI2dB', row.first, row.last, row.attempt,
      row.lease, row.policy)
  elseif row.attempt > 0 or row.last ~= row.first then
    kind, numbers = 's', struct.pack('<ddI2', row.first, row.last, row.attempt)
  else
    kind, numbers = 'm', struct.pack('<d', row.first)
  end
  if not note then return MAGIC .. kind .. numbers .. row.token end
  return MAGIC .. string.upper(kind) .. numbers .. string.char(#row.token) .. row.token
    .. note
end

-- Returns what `execute` returns. An absent key is written only if it is absent: an
-- empty text of another program is not overwritten.
local function write(key, row, note, is_absent)
  if not row or (row.expires and row.expires <= now) then
    if is_absent then return nil end
    return execute('DEL', key)
  end
  local value = row.value or pack(row, note)
  if not is_absent then
    if not row.expires then return execute('SET', key, value) end
    return execute('SET', key, value, 'PXAT', milliseconds(row.expires))
  end
  if not row.expires then return execute('SET', key, value, 'NX') end
  return execute('SET', key, value, 'PXAT', milliseconds(row.expires), 'NX')
end
