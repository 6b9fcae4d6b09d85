-- Reads and writes what the listing of a source concerns; follows rows.lua.
--
-- ARGV[1]: the task. ARGV[2]: its numbers, packed by observing.py. KEYS[1] to KEYS[3]:
-- the source and its indexes, as `names_of` returns them, but for the task `rows`. Every
-- reply begins with the time.
--
-- The indexes are sorted sets. `pending` has the keys that wait to be handled, by their
-- order, and an empty text, so that it is there as long as the source is. `listed` has
-- every key that was observed: +inf while it is listed, else the poll clock at the last
-- poll that listed it.

local DONE, CONFLICT, REFUSED = 0, 1, 2  -- and the number of the refusal
local FIRST_BYTES = tonumber(LAST) + 1
local POLL_AT = 11  -- where the number of the poll, and its clock, are in a value
local AT_ONCE = 1000  -- members of an index that one command adds
local OLDEST = 1000  -- pending keys of which the oldest is sought
local MOST_EXPIRED = 10000  -- absent keys that one observation examines

local task = ARGV[1]
local source, pending, listed = KEYS[1], KEYS[2], KEYS[3]

-- Returns the first bytes of a value, with all texts but the note; one space for a value
-- that is no text.
local function raw(key)
  local value = pcall('GETRANGE', key, '0', LAST)
  if type(value) == 'table' then
    if sub(value.err, 1, 9) == 'WRONGTYPE' then return ' ' end
    call('GETRANGE', key, 0, 0)  -- raises the error
  end
  if #value == FIRST_BYTES and byte(value) == WIDE then
    local row = parse(value)
    if row and row.note_at > #value + 1 then
      return call('GETRANGE', key, 0, row.note_at - 2)
    end
  end
  return value
end

local function pack_value(key)
  local value = raw(key)
  if value == '' then return '\0\0\0\0' end
  local expires = NONE
  if byte(value) ~= WIDE or byte(value, 3) ~= 1 then
    expires = call('PEXPIRETIME', key)
    if expires >= 0 then expires = expires / 1000 end
  end
  return pack('<I4d', #value, expires) .. value
end

local function name_of(member)
  return sub(source, 1, -#'>source' - 1) .. ':' .. member
end

-- Returns how many keys wait to be handled, and when the first of them was observed.
local function waiting()
  local oldest = NONE
  for _, member in ipairs(call('ZRANGEBYSCORE', pending, 0, '+inf', 'LIMIT', 0, OLDEST)) do
    local row = read(name_of(member))
    if row and (oldest == NONE or row.first < oldest) then oldest = row.first end
  end
  return pack('<I4d', call('ZCOUNT', pending, 0, '+inf'), oldest)
end

local function page()
  local after, limit = unpack('<dI4', ARGV[2])
  local found = call('ZRANGEBYSCORE', pending, string.format('(%.17g', after), '+inf',
    'WITHSCORES', 'LIMIT', 0, limit)
  local parts = {pack('<d', now)}
  for at = 1, #found, 2 do
    local member = found[at]
    parts[#parts + 1] = pack('<dI2', tonumber(found[at + 1]), #member) .. member
      .. pack_value(name_of(member))
  end
  return table.concat(parts)
end

-- Collects the members of an index, and adds many at once.
local function adder(name)
  local batch = {}
  local function flush()
    if #batch > 0 then call('ZADD', name, spread(batch)) end
    batch = {}
  end
  local function add(score, member)
    batch[#batch + 1], batch[#batch + 2] = score, member
    if #batch >= 2 * AT_ONCE then flush() end
  end
  return add, flush
end

-- Removes the keys that are absent for long, the oldest first, until `keep` are there.
local function expire(poll, clock, keep)
  local excess = call('ZCARD', listed) - keep
  if excess <= 0 then return end
  local found = call('ZRANGEBYSCORE', listed, '-inf', clock, 'LIMIT', 0, MOST_EXPIRED)
  for _, member in ipairs(found) do
    local key = name_of(member)
    -- The key is not declared: in a slot that moves it may be elsewhere.
    if excess > 0 and type(pcall('EXISTS', key)) == 'number' then
      local row, is_foreign = read(key)
      if is_foreign or not row or (row.clock and row.poll <= poll and not row.lease
        and (not row.kept or row.kept <= now)) then
        if row then call('DEL', key) end
        call('ZREM', listed, member)
        excess = excess - 1
      end
    end
  end
end

-- Commits what an observation changes, if the source and the rows are as it read them.
-- KEYS: the rows to write; as many as are moved, the names that those had; the keys that
-- have left the listing. ARGV: the source before and after, the rows, and the values of
-- those that are moved.
--
-- The first write decides: if the server refuses it, nothing was done, and once a script
-- has written, no further write is refused.
local function commit()
  local rows, moved, left, left_poll, left_clock, poll, clock, keep =
    unpack('<I4I4I4ddddd', ARGV[2])
  local before, after = ARGV[4], ARGV[5]
  local stored = call('GET', source) or ''
  if stored == after and after ~= before then  -- a repeated request, written again so
    execute('SET', source, after)              -- that its client can wait for replicas
    return DONE
  end
  if stored ~= before then return CONFLICT end
  for number = 1, rows do
    local entry = ARGV[5 + number]
    local _, _, size = unpack('<I4dI4', entry)
    if raw(KEYS[3 + number]) ~= sub(entry, 21, 20 + size) then return CONFLICT end
  end
  for number = 1, moved do
    if raw(KEYS[3 + rows + number]) ~= ARGV[5 + rows + number] then return CONFLICT end
  end
  local refusal = execute('SET', source, after)
  if refusal then return REFUSED + refusal end
  call('ZADD', pending, NONE, '')
  local add_pending, flush_pending = adder(pending)
  local add_listed, flush_listed = adder(listed)
  for number = 1, rows do
    local key, entry = KEYS[3 + number], ARGV[5 + number]
    local note_at, seq, size, head = unpack('<I4dI4I4', entry)
    local old = number <= moved and KEYS[3 + rows + number]
    local _, _, _, member = names_of(key)
    local value = sub(entry, 21 + size)
    if note_at > 0 then  -- the note stays
      value = sub(value, 1, head) .. call('GETRANGE', old or key, note_at - 1, -1)
    end
    if old then
      local _, _, _, former = names_of(old)
      call('DEL', old)
      call('ZREM', pending, former)
      call('ZREM', listed, former)
    end
    call('SET', key, value)
    add_listed('+inf', member)
    if seq ~= NONE then
      add_pending(seq, member)
    elseif size > 0 then
      call('ZREM', pending, member)
    end
  end
  for number = 1, left do
    local key = KEYS[3 + rows + moved + number]
    local magic, _, flag = byte(call('GETRANGE', key, 0, 2), 1, 3)
    if magic == WIDE and flag == 1 then  -- else it was forgotten meanwhile
      local _, _, _, member = names_of(key)
      call('SETRANGE', key, POLL_AT, pack('<I4d', left_poll, left_clock))
      add_listed(left_clock, member)
    end
  end
  flush_listed()
  flush_pending()
  if keep ~= NONE then expire(poll, clock, keep) end
  return DONE
end

if task == 'rows' then
  local parts = {pack('<d', now)}
  for number = 1, #KEYS do parts[number + 1] = pack_value(KEYS[number]) end
  return table.concat(parts)
elseif task == 'state' then
  local value = pcall('GET', source)
  if type(value) == 'table' then value = ' ' end
  return pack('<dI4', now, call('ZCOUNT', listed, '+inf', '+inf')) .. (value or '')
elseif task == 'listed' then
  local first, count = unpack('<I4I4', ARGV[2])
  local found = call('ZRANGEBYSCORE', listed, '+inf', '+inf', 'LIMIT', first, count)
  return pack('<d', now) .. table.concat(found, '\0')
elseif task == 'page' then
  return page()
elseif task == 'waiting' then
  return pack('<d', now) .. waiting()
elseif task == 'drop' then
  call('DEL', source, pending, listed)
  return pack('<d', now)
elseif task == 'commit' then
  return pack('<dB', now, commit()) .. waiting()
end
error('unknown task ' .. task)
