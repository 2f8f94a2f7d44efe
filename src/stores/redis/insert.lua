-- Stores a record if there is none.
--
-- KEYS[1]  the record
-- ARGV[1]  the new record
-- ARGV[2]  its time to live in milliseconds
--
-- Returns 1 when stored, and else the record that is there.
--
-- A script because `SET NX GET` needs Redis 7, and because two commands could find the key neither free nor there.
local present = redis.call('GET', KEYS[1])
if present then
  return present
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
