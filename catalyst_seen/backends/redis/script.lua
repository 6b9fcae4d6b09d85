-- Executes a batch of operations of the state table, each key atomically.
--
-- KEYS: the Redis keys of the operations, in order. ARGV[1]: random, one for each script
-- call. ARGV[2]: the operations, encoded by script.py, each with the number of
-- consecutive keys that it applies to. Returns the time; a record for each key, but for
-- the keys of a ForEach, whose number has the highest bit, one for all; and then the
-- texts of those records that have any.

local NEW, RETRY, IN_FLIGHT, DUPLICATE, HELD = 0, 1, 2, 3, 4
local PENDING = 5  -- the state of a key that was observed, and not claimed yet
local RELEASED, ON_RETRY, HOLD, DROP = 0, 1, 2, 3
local UNCOUNTED = 1  -- a release that takes the claim from the attempts
local ABANDONED = {[0] = RETRY, RETRY, HELD, DUPLICATE}  -- released, retry, hold, drop
local DONE, STORED, FOREIGN, REFUSED, WITH_NOTE, EXPORTED = 1, 2, 4, 8, 16, 32
local LISTED, WITH_ERROR = 64, 128
local EACH, TOKENS = 2147483648, 1073741824  -- added to the number of keys of a ForEach
-- Added to the verdict on a key of a ForEach: the operation took effect; a claim, or the
-- attempts, follow; a note follows. The last two replace it.
local EACH_DONE, EACH_CLAIM, EACH_NOTE, EACH_FOREIGN, EACH_REFUSED = 8, 16, 32, 64, 128
local FOREVER = -1
local NO_TEXT = 4294967295
local MAX_ATTEMPT = 65535  -- two bytes
local NO_ROW = {first = 0, last = 0, attempt = 0}

local index = 0  -- of the current key in KEYS

local function mark_token()  -- identifies a mark of this call
  return ARGV[1] .. index
end

-- Was the row marked by an earlier attempt of this call, whose reply was lost?
local function is_own_mark(row)
  if row.lease or sub(row.token, 1, #ARGV[1]) ~= ARGV[1] then return false end
  for earlier = 1, index - 1 do  -- the mark may be that of an earlier operation
    if KEYS[earlier] == KEYS[index] then return row.token == mark_token() end
  end
  return true
end

local function verdict_of(row)
  if not row then return NEW end
  if not row.lease then return DUPLICATE end
  if now < row.lease then return IN_FLIGHT end
  if row.attempt == 0 and row.policy == RELEASED then return NEW end
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
  row.lease, row.policy, row.token = now + op.span, op.number, op.token
  if row.listed and op.number == DROP then row.policy = ON_RETRY end
  row.expires = nil
  if op.number ~= HOLD then row.expires = expiry(row.lease, op.ttl) end
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

-- Does the state of a key have a number, which is the verdict that it leads to? But
-- that of a claim that was released with a delay is RETRY. NEW is any.
local function has_state(row, verdict, number)
  if is_released(row) and row.attempt == 0 then
    return number == NEW or number == PENDING
  end
  if verdict == IN_FLIGHT and is_released(row) then verdict = RETRY end
  return number == NEW or number == verdict
end

-- Both functions return whether the operation took effect, the row to store, and the
-- verdict if that differs from the state of the key, because an earlier attempt has
-- applied the operation. Such an operation stores its row again: a client that waits
-- for replicas waits for this write.
--
-- They are no tables of functions, because every call of the script would make these
-- anew, which takes longer than all comparisons.
local function administrate(verb, op, key, row, verdict)
  if verb == 'o' then  -- Cleanup
    if not row or row.listed or row.last >= now - op.span or verdict == IN_FLIGHT
      or (row.lease and row.policy == HOLD) then return false, row end
    return true, nil
  elseif verb == 'd' then  -- Discard
    if row and not is_owner(row, op) then return false, row end
    return true, nil
  elseif verb == 'l' then  -- Select
    if row and row.last >= op.ts and has_state(row, verdict, op.number) then
      return false, row
    end
    return false, nil
  elseif verb == 'y' then  -- Import
    if now >= op.span then return false, row end
    local copy = parse(op.text)
    if row and row.last >= copy.last then return true, row, verdict end
    copy.value, copy.expires = op.text, op.ts >= 0 and op.ts or nil
    return true, copy
  elseif verb == 'v' then  -- Rename
    local source = KEYS[index - 1]
    local moved = read(source)
    if not moved then return false, row end
    if row and row.last >= moved.last then
      reindex(source, moved, nil)
      call('DEL', source)
      return true, row, verdict
    end
    moved.source = source
    return true, moved
  elseif verb == 'z' then  -- Remove
    if row and ((row.expires or FOREVER) ~= op.ts or call('GET', key) ~= op.text) then
      return false, row
    end
    return true, nil
  end
  error('unknown verb ' .. verb)
end

local function transition(verb, op, key, row, verdict)
  if verb == 'i' or verb == 'g' or verb == 'x' then  -- IsSeen, Get, Export
    return false, row
  elseif verb == 'k' then  -- CheckAndMark
    if verdict <= RETRY then
      local mark = marked(row, verdict, now, op.ttl)
      mark.token = mark_token()
      return true, mark
    end
    if verdict == DUPLICATE and is_own_mark(row) then
      return true, row, row.attempt > 0 and RETRY or NEW
    end
    return false, row
  elseif verb == 'm' then  -- Mark
    local ts = op.ts
    if ts < 0 then ts = now end
    return true, marked(row, verdict, ts, op.ttl)
  elseif verb == 'a' then  -- Acquire
    if is_owner(row, op) then
      return true, leased(row, op), row.attempt > 1 and RETRY or NEW
    end
    if verdict <= RETRY then
      local first, attempt = now, 1
      if row then first, attempt = row.first, math.min(row.attempt + 1, MAX_ATTEMPT) end
      local claim = {first = first, last = now, attempt = attempt}
      claim.listed = row and row.listed
      return true, leased(claim, op)
    end
    return false, row
  elseif verb == 'c' then  -- Confirm
    if not row or row.token ~= op.token then return false, row end
    if not row.lease then return true, row end
    if is_released(row) then return false, row end
    return true, {first = row.first, last = now, attempt = row.attempt,
      token = row.token, expires = expiry(now, op.ttl)}
  elseif verb == 'n' then  -- Renew
    if not is_owner(row, op) or is_released(row) then return false, row end
    return true, leased(row, op)
  elseif verb == 'r' then  -- Release
    if not is_owner(row, op) then return false, row end
    if op.number == UNCOUNTED and not is_released(row) then
      row.attempt = row.attempt - 1
    end
    return true, released(row, now + op.span, op.ttl)
  elseif verb == 'w' then  -- Hold
    if not is_owner(row, op) or is_released(row) then return false, row end
    row.lease, row.policy, row.expires = math.min(now, row.lease), HOLD, nil
    return true, row
  elseif verb == 'e' then  -- Refresh
    if verdict ~= DUPLICATE then return false, row end
    local mark = marked(row, verdict, now, op.ttl)
    mark.expires = row.expires and mark.expires and math.max(row.expires, mark.expires)
    return true, mark
  elseif verb == 'f' then  -- Forget, Clear
    return row ~= nil, nil
  elseif verb == 'h' then  -- Resolve(is_handled=True)
    if verdict ~= HELD then return false, row end
    return true, marked(row, verdict, now, op.ttl)
  elseif verb == 'u' then  -- Resolve(is_handled=False)
    if verdict ~= HELD then return false, row end
    return true, released(row, now, op.ttl)
  end
  return administrate(verb, op, key, row, verdict)
end

-- Keeps what the source knows of a key that was observed, which never expires by time,
-- and waits in its order until it is seen; and the last error until then.
local function keep(op, row, stored)
  if row and row.listed then
    if stored ~= row then
      stored.listed, stored.poll, stored.clock = true, row.poll, row.clock
      stored.kept, stored.alias, stored.digest = row.kept, row.alias, row.digest
      if stored.lease then stored.seq = row.seq end
    end
    stored.expires = nil
  end
  if stored.lease then
    stored.error = op.error or (row and row.error)
  else
    stored.error = nil
  end
end

-- Returns the note of the row that an operation stores. One that an earlier attempt has
-- applied keeps the note: it has been written, and may have been replaced since.
local function note_after(op, key, row, is_repeated)
  if op.text and not is_repeated then return op.text ~= '' and op.text or nil end
  return row and read_note(key, row)
end

local HAS_ERROR = {g = true, l = true}
local HAS_TEXT = {a = WITH_NOTE, g = WITH_NOTE, l = WITH_NOTE, x = EXPORTED}

-- Returns the text that belongs to the result of such an operation.
local function text_of(verb, key, row, is_done, note)
  if verb == 'a' then return is_done and note end
  if verb == 'x' then return call('GET', key) end
  return read_note(key, row)
end

local packed, at = ARGV[2], 1
local records, texts = {pack('<d', now)}, {}
local op, verb, text_flag = {}, nil, nil

-- Executes the current operation on the next key. Returns the verdict on the key,
-- whether the operation took effect, the row that it left, and the text of its result;
-- or nil, and the number of the refusal, nil if the key belongs to another program.
local function execute_next()
  index = index + 1
  local key = KEYS[index]
  local row, is_foreign, is_absent = read(key)
  if is_foreign then return nil end
  local verdict = verdict_of(row)
  local is_done, stored, corrected = transition(verb, op, key, row, verdict)
  local note, refusal
  if is_done then
    if stored and (op.text or (row and row.note_at)) then
      note = note_after(op, key, row, corrected)
    end
    if stored and (op.error or (row and row.listed ~= nil)) and verb ~= 'v' and verb ~= 'y'
    then
      keep(op, row, stored)
    end
    refusal, is_foreign = write(key, stored, note, is_absent, row)
    if is_foreign or refusal then return nil, refusal end
  end
  local text = text_flag and stored and text_of(verb, key, row, is_done, note)
  return corrected or verdict, is_done, stored, text
end

local function add_text(text)
  texts[#texts + 1] = pack('<I4', #text)
  texts[#texts + 1] = text
end

local function execute_single()
  local verdict, is_done, row, text = execute_next()
  local flags
  if verdict then
    flags = (is_done and DONE or 0) + (row and STORED or 0) + (text and text_flag or 0)
    if text then add_text(text) end
    if row and row.listed then flags = flags + LISTED end
    if row and row.error and HAS_ERROR[verb] then
      flags = flags + WITH_ERROR
      add_text(row.error)
    end
  else
    verdict, flags, row = is_done or 0, is_done and REFUSED or FOREIGN, nil
  end
  row = row or NO_ROW
  return pack('<BBddddI4B', verdict, flags, row.first, row.last,
    row.expires or FOREVER, row.lease or FOREVER, row.attempt, row.policy or RELEASED)
end

-- Executes a ForEach on the next keys, each with its own token if the sizes of the tokens
-- are at `sizes` and their texts at `token`. Its record has the earliest expiry of the
-- rows, which is 0 unless all are seen; a byte for each key; and for each key of a
-- CheckAndMark or an Acquire the instants of its row.
local function execute_each(keys, sizes, token)
  local codes, instants, earliest = {}, {}, math.huge
  local has_details = verb == 'k' or verb == 'a'
  for number = 1, keys do
    if sizes then
      local size = byte(packed, sizes + number - 1)
      op.token = sub(packed, token, token + size - 1)
      token = token + size
    end
    local code, is_done, row, text = execute_next()
    if not code then
      code = is_done and EACH_REFUSED + is_done or EACH_FOREIGN
      row = nil
    else
      if is_done then code = code + EACH_DONE end
      if has_details and row and (row.lease or row.attempt > 0) then
        code = code + EACH_CLAIM
        texts[#texts + 1] = pack('<I4d', row.attempt, row.lease or FOREVER)
      end
      if text then
        code = code + EACH_NOTE
        add_text(text)
      end
    end
    codes[number] = char(code)
    if not row or row.lease then
      earliest = 0
    elseif row.expires and row.expires < earliest then
      earliest = row.expires
    end
    if has_details then
      row = row or NO_ROW
      instants[number] = pack('<dd', row.first, row.last)
    end
  end
  if earliest == math.huge then earliest = FOREVER end
  records[#records + 1] =
    pack('<d', earliest) .. table.concat(codes) .. table.concat(instants)
  return token
end

while at <= #packed do
  local keys, size, length
  keys, verb, op.span, op.ttl, op.ts, op.number, size, length, at =
    unpack('<I4c1dddBBI4', packed, at)
  text_flag = HAS_TEXT[verb]
  op.token = sub(packed, at, at + size - 1)
  at, op.text = at + size, nil
  op.error = nil
  if length ~= NO_TEXT then
    op.text = sub(packed, at, at + length - 1)
    at = at + length
    if verb == 'r' or verb == 'w' then op.error, op.text = op.text, nil end
  end
  if keys >= EACH + TOKENS then
    keys = keys - EACH - TOKENS
    at = execute_each(keys, at, at + keys)
  elseif keys >= EACH then
    execute_each(keys - EACH)
  else
    for _ = 1, keys do
      records[#records + 1] = execute_single()
    end
  end
end
return table.concat(records) .. table.concat(texts)
