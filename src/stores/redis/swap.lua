-- Stores a record if the one there has the version that was read.
--
-- KEYS[1]  the record
-- ARGV[1]  the version that was read: 24 bytes
-- ARGV[2]  the new record
-- ARGV[3]  its time to live in milliseconds
--
-- Returns 1 when stored, 0 when there is no record, and else the record that is there, which saves the caller a load.
--
-- A script because comparing and storing must be one step: of all swaps of one version exactly one may win.
-- Bytes 5 to 28 are the version (`Sealed` in ports/store.rs). The time to live is never shortened.
local version = redis.call('GETRANGE', KEYS[1], 5, 28)
if version == '' then
  return 0
end
if version ~= ARGV[1] then
  return redis.call('GET', KEYS[1])
end
local left = redis.call('PTTL', KEYS[1])
local ttl = ARGV[3]
if left > tonumber(ttl) then
  ttl = left
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ttl)
return 1
