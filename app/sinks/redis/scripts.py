"""The scripts that run within Redis: a value is compared and written atomically, so two processes do no harm.

Both return {index, why, ...}, counted from 1, of values and streams that are refused, as their key holds another type.
Any other failure (no memory, a replica, no permission) ends the script, which may be run again as a whole.
"""

_REFUSED = """
local refused = {}
local function failed(answer)
  return type(answer) == 'table' and answer.err
end
local function is_refused(failure, index)
  if string.sub(failure, 1, 9) ~= 'WRONGTYPE' then return false end
  refused[#refused + 1] = index
  refused[#refused + 1] = failure
  return true
end
"""

# KEYS: of the values; ARGV: TTL in seconds (0: none), milliseconds of a setback (0: never), the values.
# Times have six decimals or none; with six, text compares as the time does. Numbers beyond 2^53 are compared as text,
# as Lua would round them.
LAST_VALUES = (
    _REFUSED
    + """
local function head(value)
  local time, ingest, sequence = string.match(value, '^{"time":"([^"Z]+)Z","ingest_ms":(%-?%d+),"sequence_id":(%-?%d+)')
  if not time then return nil end
  if #time == 19 then time = time .. '.000000' end
  return time, tonumber(ingest), sequence
end
local function less(one, other)
  local a, b = tonumber(one), tonumber(other)
  if a ~= b then return a < b end
  return a > 0 and one < other or a < 0 and one > other
end
local seconds, setback = tonumber(ARGV[1]), tonumber(ARGV[2])
for index, key in ipairs(KEYS) do
  local known = redis.pcall('GETRANGE', key, 0, 127)
  local failure = failed(known)
  if failure then
    if not is_refused(failure, index) then return known end
  elseif ARGV[index + 2] then
    local value = ARGV[index + 2]
    local time, ingest, sequence = head(known)
    local stays = false
    if time then
      local new_time, new_ingest, new_sequence = head(value)
      stays = new_time < time or (new_time == time and less(new_sequence, sequence))
      if stays and setback > 0 and new_ingest - ingest >= setback then stays = false end
    end
    if not stays then
      local set
      if seconds > 0 then
        set = redis.pcall('SET', key, value, 'EX', seconds)
      else
        set = redis.pcall('SET', key, value)
      end
      if failed(set) then return set end
    end
  end
end
return refused
"""
)

# KEYS: of each stream, and of its marks; ARGV: most entries, TTL in seconds (0: none), the partition, then for each
# stream the number of its entries, and for each entry its offset, its arrival in milliseconds, its value.
# The marks hold the last "offset arrival" of each partition in the stream. An entry with an offset up to that is a
# repeat, unless the entry arrived later than the mark: then the topic was recreated, and its offsets begin at 0.
STREAMS = (
    _REFUSED
    + """
local most, seconds, partition, at = ARGV[1], tonumber(ARGV[2]), ARGV[3], 4
for index = 1, #KEYS / 2 do
  local stream, marks = KEYS[2 * index - 1], KEYS[2 * index]
  local count, failure = tonumber(ARGV[at]), nil
  local mark = redis.pcall('HGET', marks, partition)
  failure = failed(mark)
  local done, latest = -1, -1
  if mark and not failure then
    local offset, arrival = string.match(mark, '^(%d+) (%-?%d+)$')
    if offset then done, latest = tonumber(offset), tonumber(arrival) end
  end
  local answer, moved = mark, false
  for entry = at + 1, at + 3 * count, 3 do
    local offset, arrival = tonumber(ARGV[entry]), tonumber(ARGV[entry + 1])
    if not failure and (offset > done or arrival > latest) then
      answer = redis.pcall('XADD', stream, 'MAXLEN', '~', most, '*', 'reading', ARGV[entry + 2])
      failure = failed(answer)
      if not failure then done, latest, moved = offset, math.max(latest, arrival), true end
    end
  end
  if moved then
    local set = redis.pcall('HSET', marks, partition, string.format('%.0f %.0f', done, latest))
    if failed(set) and not failure then answer, failure = set, failed(set) end
    if seconds > 0 then
      redis.pcall('EXPIRE', stream, seconds)
      redis.pcall('EXPIRE', marks, seconds)
    end
  end
  if failure and not is_refused(failure, index) then return answer end
  at = at + 3 * count + 1
end
return refused
"""
)
