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
--
-- Another magic byte begins the value of a key that was observed in a listing, or whose
-- last error is known. Between the letter and its numbers are a flag, what the source
-- knows of the key, and the sizes of texts, so that these have a fixed place:
--   flag seq listed_poll listed_at kept_until sizes
-- After its token, whose length precedes it, follow the texts: alias, digest and error,
-- and the note. Earlier releases take it for the value of another program.
--
-- Its TTL is Redis's own expiry, in whole milliseconds. Redis removes expired values;
-- `read` below checks the TTL, and ignores a value that Redis has not removed yet.

local spread = unpack  -- of a table
local call, pcall, pack, unpack = redis.call, redis.pcall, struct.pack, struct.unpack
local byte, char, sub, ceil = string.byte, string.char, string.sub, math.ceil

local REFUSALS = {OOM = 0, MISCONF = 1, NOREPLICAS = 2}  -- of a write, before it is done
local MAGIC = 197  -- a letter after this byte is invalid UTF-8
local WIDE = 198  -- so is one after this; begins the value of an observed key
local M, S, C = 109, 115, 99  -- the letters
local NOTED = -32  -- makes the letter a capital
local MIN_SIZE = {  -- bytes of a value without its token
  [M] = 10, [S] = 20, [C] = 29, [M + NOTED] = 11, [S + NOTED] = 21, [C + NOTED] = 30,
}
local WIDE_SIZE = 39  -- bytes before the numbers of the letter
local MIN_WIDE = {[M] = 48, [S] = 58, [C] = 67}
local LAST = '319'  -- index of the last byte of the longest value without its texts
local NONE = -1  -- of a number that is not known

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

local function optional(number)
  if number ~= NONE then return number end
end

-- Returns the row in a value that begins with `WIDE`.
local function parse_wide(value, letter)
  local min_size = MIN_WIDE[letter]
  if not min_size or #value < min_size then return nil end
  local flag, seq, poll, clock, kept, alias, digest, failure =
    unpack('<BdI4ddI4I2I2', value, 3)
  local row, at = {}, nil
  if letter == M then
    row.first, at = unpack('<d', value, WIDE_SIZE + 1)
    row.last, row.attempt = row.first, 0
  elseif letter == S then
    row.first, row.last, row.attempt, at = unpack('<ddI2', value, WIDE_SIZE + 1)
  else
    row.first, row.last, row.attempt, row.lease, row.policy, at =
      unpack('<ddI2dB', value, WIDE_SIZE + 1)
  end
  row.listed, row.seq, row.poll = flag == 1, optional(seq), poll
  row.clock, row.kept = optional(clock), optional(kept)
  local texts = at + 1 + byte(value, at)
  row.token = sub(value, at + 1, texts - 1)
  row.alias = sub(value, texts, texts + alias - 1)
  row.digest = sub(value, texts + alias, texts + alias + digest - 1)
  row.note_at = texts + alias + digest + failure
  if failure > 0 then row.error = sub(value, row.note_at - failure, row.note_at - 1) end
  return row
end

-- Returns the row in a value, or in its first bytes, but without the note, which begins
-- at `note_at`; nil if the value belongs to another program.
local function parse(value)
  local magic, letter = byte(value, 1, 2)
  if magic == WIDE then return parse_wide(value, letter) end
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
  if row.listed ~= nil and row.note_at > #value + 1 then  -- its texts are long
    row = parse(call('GETRANGE', key, 0, row.note_at - 2))
  end
  local expires = call('PEXPIRETIME', key)
  if expires >= 0 then
    row.expires = expires / 1000
    if row.expires <= now then return nil end
  end
  return row
end

local function read_note(key, row)
  local note = row.note_at and call('GETRANGE', key, row.note_at - 1, -1)
  return note ~= '' and note
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

-- Returns the value of a key that was observed, or has an error.
local function to_wide(row, note)
  local alias, digest, failure = row.alias or '', row.digest or '', row.error or ''
  local letter, numbers = M, nil
  if row.lease then
    letter = C
    numbers = pack('<ddI2dB', row.first, row.last, row.attempt, row.lease, row.policy)
  elseif row.attempt > 0 or row.last ~= row.first then
    letter, numbers = S, pack('<ddI2', row.first, row.last, row.attempt)
  else
    numbers = pack('<d', row.first)
  end
  local head = pack('<BBBdI4ddI4I2I2', WIDE, letter, row.listed and 1 or 0,
    row.seq or NONE, row.poll or 0, row.clock or NONE, row.kept or NONE, #alias,
    #digest, #failure)
  return table.concat({head, numbers, char(#row.token), row.token, alias, digest,
    failure, note or ''})
end

local function to_value(row, note)
  if row.listed or row.error then return to_wide(row, note) end
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

-- Returns the names of the source of a key and of its two indexes, and what the indexes
-- call the key. All of them share its slot, for a source has no default namespace.
local function names_of(key)
  local tag = string.find(key, '}', 1, true)
  local head = sub(key, 1, tag)
  return head .. '>source', head .. '>pending', head .. '>listed', sub(key, tag + 2)
end

-- Keeps the indexes of a namespace, which repeat what the values say. In a slot that
-- moves to another node, some of the names may be there and some here: then this raises
-- an error, before anything of the key is written.
local function reindex(key, before, after)
  before, after = before and before.listed and before, after and after.listed and after
  if not before and not after then return end
  local seq, clock = after and after.seq, after and (after.clock or '+inf')
  local is_waiting = before and before.seq
  local is_same = before and after and (before.clock or '+inf') == clock
  if seq == is_waiting and is_same then return end
  local source, pending, listed, member = names_of(key)
  call('EXISTS', source, pending, listed)
  local refusal
  if not after then
    call('ZREM', listed, member)
  elseif not is_same then
    refusal = execute('ZADD', listed, clock, member)
  end
  if refusal then return refusal end
  if seq and seq ~= is_waiting then
    return execute('ZADD', pending, seq, member)
  elseif is_waiting and not seq then
    call('ZREM', pending, member)
  end
end

-- Renames a key; returns what `execute` returns.
local function rename(source, key, is_absent)
  if not is_absent then return execute('RENAME', source, key) end
  return nil, call('RENAMENX', source, key) == 0
end

-- Writes the value of a key; `write` without the indexes.
local function write_value(key, row, note, is_absent)
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

-- Returns what `execute` returns. An absent key is written only if it is absent: an
-- empty text of another program is not overwritten. `before` is the row that was there.
local function write(key, row, note, is_absent, before)
  if (row and row.listed) or (before and before.listed) then
    local refusal = reindex(key, before, row)
    if not refusal and row and row.source then reindex(row.source, row, nil) end
    if refusal then return refusal end
  end
  return write_value(key, row, note, is_absent)
end
