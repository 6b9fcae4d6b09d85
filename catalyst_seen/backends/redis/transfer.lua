-- Reads and writes whole values, for a move to another database; follows rows.lua.
--
-- ARGV[1]: the task. Every reply begins with the time.

local MOST_BYTES = 1000000  -- of a reply, after which it ends early
local DONE, FOREIGN, LOCKED, REFUSED = 0, 1, 2, 3  -- and the number of the refusal
local LOCK = '\198w'  -- how the value of a source begins whose keys are being moved

-- Returns the values of keys, each with its size and its expiry; those of other programs
-- are empty, as those are that are not there.
local function read_values()
  local parts, size = {pack('<d', now)}, 0
  for number = 1, #KEYS do
    local row, value = read(KEYS[number]), ''
    if row then value = call('GET', KEYS[number]) end
    parts[number + 1] = pack('<I4d', #value, row and row.expires or NONE) .. value
    size = size + #value
    if size > MOST_BYTES then break end
  end
  return table.concat(parts)
end

-- Replaces the values of keys, and keeps the indexes of their namespaces. ARGV from the
-- fourth on: an expiry, and the value after it; none removes the key.
--
-- All keys are read before the first one is written. Once a script has written, no
-- further write is refused.
local function write_values()
  local rows, absent = {}, {}
  for number = 1, #KEYS do
    local row, is_foreign, is_absent = read(KEYS[number])
    if is_foreign then return FOREIGN, number end
    rows[number], absent[number] = row or false, is_absent or false
  end
  for number = 1, #KEYS do
    local entry, row = ARGV[3 + number], nil
    local expires, at = unpack('<d', entry)
    if at <= #entry then
      row = parse(sub(entry, at))
      row.value, row.expires = sub(entry, at), optional(expires)
    end
    local refusal, is_foreign =
      write(KEYS[number], row, nil, absent[number], rows[number] or nil)
    if is_foreign then return FOREIGN, number end
    if refusal then return REFUSED + refusal, number end
  end
  return DONE, 0
end

-- Replaces the value of a source; an empty one removes it. KEYS: the source and its
-- indexes. The indexes belong to the rows, and stay as long as these.
local function write_source()
  local source, pending, value = KEYS[1], KEYS[2], ARGV[4]
  local stored = pcall('GETRANGE', source, 0, 1)
  if type(stored) == 'table' then return FOREIGN, 1 end
  if stored == LOCK then return LOCKED, 1 end
  if value == '' then
    call('DEL', source)
    call('ZREM', pending, '')
    return DONE, 0
  end
  local refusal = execute('SET', source, value)
  if refusal then return REFUSED + refusal, 1 end
  call('ZADD', pending, NONE, '')
  return DONE, 0
end

local task = ARGV[1]
if task == 'read' then return read_values() end
if task == 'write' then return pack('<dBI4', now, write_values()) end
if task == 'source' then return pack('<dBI4', now, write_source()) end
error('unknown task ' .. task)
