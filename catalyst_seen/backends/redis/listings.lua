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
local AT_ONCE = 1000  -- arguments of one command
local MOST_EXAMINED = 1000  -- pending keys of which the oldest is sought
local MOST_EXPIRED = 10000  -- absent keys that one observation examines

local HOLD = 2  -- the policy of a key that is held when its lease is over

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

-- Returns how many keys wait to be handled, and for how long the first of them does. Of
-- very many, those that are held are only recognised among the first.
local function waiting()
  local count, oldest = call('ZCOUNT', pending, 0, '+inf'), NONE
  local first = call('ZRANGEBYSCORE', pending, 0, '+inf', 'LIMIT', 0, MOST_EXAMINED)
  for _, member in ipairs(first) do
    local row = read(name_of(member))
    if not row or (row.lease and row.lease <= now and row.policy == HOLD) then
      count = count - 1
    else
      local since = row.attempt > 0 and row.first or row.last
      if oldest == NONE or since < oldest then oldest = since end
    end
  end
  return pack('<I4d', count, oldest)
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

-- Collects arguments of a command, and executes it with many at once, which takes a third
-- of the time.
local function collector(...)
  local first = {...}
  local batch, size = {...}, #first
  local function flush()
    if size > #first then call(spread(batch, 1, size)) end
    size = #first
  end
  local function add(one, other)
    batch[size + 1], batch[size + 2] = one, other
    size = size + 2
    if size >= AT_ONCE then flush() end
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

-- Are the values still as an observation read them? KEYS: the rows to write, and the
-- former names of as many of them as are moved. ARGV: the rows, each with the value that
-- was read, and the values under the former names.
local function is_as_read(rows, moved)
  local absent = {}
  for number = 1, rows do
    local key, entry = KEYS[3 + number], ARGV[5 + number]
    local _, _, size = unpack('<I4dI4', entry)
    if size == 0 then
      absent[#absent + 1] = key
    elseif raw(key) ~= sub(entry, 21, 20 + size) then
      return false
    end
  end
  for first = 1, #absent, AT_ONCE do
    local last = math.min(first + AT_ONCE - 1, #absent)
    if call('EXISTS', spread(absent, first, last)) > 0 then return false end
  end
  for number = 1, moved do
    if raw(KEYS[3 + rows + number]) ~= ARGV[5 + rows + number] then return false end
  end
  return true
end

local function write_rows(rows, moved)
  local add_value, flush_values = collector('MSET')
  local add_listed, flush_listed = collector('ZADD', listed)
  local add_pending, flush_pending = collector('ZADD', pending)
  local member_at = #name_of('') + 1
  for number = 1, rows do
    local key, entry = KEYS[3 + number], ARGV[5 + number]
    local note_at, seq, size, head = unpack('<I4dI4I4', entry)
    local old = number <= moved and KEYS[3 + rows + number]
    local member, value = sub(key, member_at), sub(entry, 21 + size)
    if note_at > 0 then  -- the note stays
      value = sub(value, 1, head) .. call('GETRANGE', old or key, note_at - 1, -1)
    end
    if old then
      call('DEL', old)
      call('ZREM', pending, sub(old, member_at))
      call('ZREM', listed, sub(old, member_at))
    end
    add_value(key, value)
    add_listed('+inf', member)
    if seq ~= NONE then
      add_pending(seq, member)
    elseif size > 0 then
      call('ZREM', pending, member)
    end
  end
  flush_values()
  flush_listed()
  flush_pending()
end

-- Writes that keys are listed no more, with the last poll that listed them.
local function write_left(before, left, poll, clock)
  local add_listed, flush_listed = collector('ZADD', listed)
  local place, member_at = pack('<I4d', poll, clock), #name_of('') + 1
  for number = before + 1, before + left do
    local key = KEYS[number]
    local magic, _, flag = byte(call('GETRANGE', key, 0, 2), 1, 3)
    if magic == WIDE and flag == 1 then  -- else it was forgotten meanwhile
      call('SETRANGE', key, POLL_AT, place)
      add_listed(clock, sub(key, member_at))
    end
  end
  flush_listed()
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
  if stored ~= before or not is_as_read(rows, moved) then return CONFLICT end
  local refusal = execute('SET', source, after)
  if refusal then return REFUSED + refusal end
  call('ZADD', pending, NONE, '')
  write_rows(rows, moved)
  write_left(3 + rows + moved, left, left_poll, left_clock)
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
