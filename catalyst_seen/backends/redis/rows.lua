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

local call, pcall, pack, unpack = redis.call, redis.pcall, struct.pack, struct.unpack
local byte, char, sub, ceil = string.byte, string.char, string.sub, math.ceil

local REFUSALS = {OOM = 0, MISCONF = 1, NOREPLICAS = 2}  -- of a write, before it is done
local MAGIC = 197  -- a letter after this byte is invalid UTF-8
local M, S, C = 109, 115, 99  -- the letters
local NOTED = -32  -- makes the letter a capital
local MIN_SIZE = {  -- bytes of a value without its token
  [M] = 10, [S] = 20, [C] = 29, [M + NOTED] = 11, [S + NOTED] = 21, [C + NOTED] = 30,
}
local LAST = '284'  -- index of the last byte of the longest value without its note

local now = tonumber(ARGV[3])
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function milliseconds(instant)
  return ceil(instant * 1000 - 0.001)
end

local function expiry(instant, ttl)
  if ttl < 0 then return nil end
  return milliseconds(instant + ttl) / 1000
end

-- Returns the row in a value, or in its first bytes, but without the note, which begins
-- at `note_at`; nil if the value belongs to another program.
local function parse(value)
  local magic, letter = byte(value, 1, 2)
  local min_size = MIN_SIZE[letter]
  if magic ~= MAGIC or not min_size or #value < min_size then return nil end
  local row, at, kind = {}, nil, letter
  if letter < 97 then kind = letter - NOTED end
  if kind == M then
    row.first, at = unpack('<d', value, 3)
    row.last, row.attempt = row.first, 0
  elseif kind == S then
    row.first, row.last, row.attempt, at = unpack('<ddI2', value, 3)
  else
    row.first, row.last, row.attempt, row.lease, row.policy, at =
      unpack('<ddI2dB', value, 3)
  end
  if kind == letter then
    row.token = sub(value, at)
  else
    row.note_at = at + 1 + byte(value, at)
    row.token = sub(value, at + 1, row.note_at - 1)
  end
  return row
end

-- Returns the row of a key, nil if there is none or its TTL is over; whether the value
-- belongs to another program; and whether there is no value, or an empty one.
local function read(key)
  local value = pcall('GETRANGE', key, '0', LAST)  -- for a note may be long
  if value == '' then return nil, false, true end
  if type(value) == 'table' then
    if sub(value.err, 1, 9) == 'WRONGTYPE' then return nil, true end
    call('GETRANGE', key, 0, 0)  -- raises the error
  end
  local row = parse(value)
  if not row then return nil, true end
  local expires = call('PEXPIRETIME', key)
  if expires >= 0 then
    row.expires = expires / 1000
    if row.expires <= now then return nil end
  end
  return row
end

local function read_note(key, row)
  return row.note_at and call('GETRANGE', key, row.note_at - 1, -1)
end

-- Executes a command that writes. Returns the number of the refusal, nil if it is done:
-- a server that is full refuses the write of one key, and the others are answered. Also
-- returns whether the command was not executed because there is a value already.
local function execute(...)
  local reply = pcall(...)
  if type(reply) ~= 'table' or not reply.err then return nil, reply == false end
  local refusal = REFUSALS[string.match(reply.err, '^%-?(%u+)') or '']
  if not refusal then call(...) end  -- raises the error
  return refusal
end

local function to_value(row, note)
  local offset = note and NOTED or 0
  local head
  if row.lease then
    head = pack('<BBddI2dB', MAGIC, C + offset, row.first, row.last, row.attempt,
      row.lease, row.policy)
  elseif row.attempt > 0 or row.last ~= row.first then
    head = pack('<BBddI2', MAGIC, S + offset, row.first, row.last, row.attempt)
  else
    head = pack('<BBd', MAGIC, M + offset, row.first)
  end
  if not note then return head .. row.token end
  return head .. char(#row.token) .. row.token .. note
end

-- Renames a key; returns what `execute` returns.
local function rename(source, key, is_absent)
  if not is_absent then return execute('RENAME', source, key) end
  return nil, call('RENAMENX', source, key) == 0
end

-- Returns what `execute` returns. An absent key is written only if it is absent: an
-- empty text of another program is not overwritten.
local function write(key, row, note, is_absent)
  if not row or (row.expires and row.expires <= now) then
    if is_absent then return nil end
    return execute('DEL', key)
  end
  if row.source then return rename(row.source, key, is_absent) end
  local value = row.value or to_value(row, note)
  if not is_absent then
    if not row.expires then return execute('SET', key, value) end
    return execute('SET', key, value, 'PXAT', milliseconds(row.expires))
  end
  if not row.expires then return execute('SET', key, value, 'NX') end
  return execute('SET', key, value, 'PXAT', milliseconds(row.expires), 'NX')
end
