-- Writes records of one partition, if all of them are as expected.
--
-- KEYS[1…]  the records
-- ARGV[1…]  for each record three values: the version that it must have (24 bytes), or nothing where there must be no
--           record; the new record, or nothing where it is not written; how long to keep the new record, in milliseconds
--
-- Returns 1 when all is written. Otherwise nothing is, and the answer is the records that are there, in order: the caller
-- decides anew without another trip.
--
-- A script because comparing and writing must be one step: of all commits that expect one version exactly one may win.
-- Bytes 5 to 28 are the version (`Sealed` in ports/store.rs). No time to live is shortened.
-- A server whose memory is full refuses the first write of a script and no later one, so nothing is written in part.
local as_expected = true
for i, key in ipairs(KEYS) do
  local expected = ARGV[3 * i - 2]
  if expected == '' then
    as_expected = redis.call('EXISTS', key) == 0
  else
    as_expected = redis.call('GETRANGE', key, 5, 28) == expected
  end
  if not as_expected then
    break
  end
end
if not as_expected then
  local present = {}
  for i, key in ipairs(KEYS) do
    present[i] = redis.call('GET', key)
  end
  return present
end
for i, key in ipairs(KEYS) do
  local record, ttl = ARGV[3 * i - 1], ARGV[3 * i]
  if record ~= '' then
    if ARGV[3 * i - 2] == '' then
      redis.call('SET', key, record, 'PX', ttl)
    elseif tonumber(ttl) <= 1 then
      -- Nothing is to be lengthened, which spares asking for what is left.
      redis.call('SET', key, record, 'KEEPTTL')
    else
      redis.call('SET', key, record, 'PX', math.max(ttl, redis.call('PTTL', key)))
    end
  end
end
return 1
