-- Counts a take if every window has room.
--
-- KEYS[1]  the quota: a sorted set of take ids, by time in milliseconds
-- ARGV[1]  the id of the take
-- ARGV[2]  the time of the take
-- ARGV[3]  the latest time that counts in no window
-- ARGV[4]  the longest window in milliseconds: how long to keep the quota
-- ARGV[5…] for each window: its maximum, and the time after which takes count in it, as a bound of ZCOUNT
--
-- Returns 1 when the take counts, now or already, and 0 when a window is full.
--
-- A script because counting and adding must be one step: parallel takes may never pass the maximum.
-- Times are worked out by the caller, since Lua prints large numbers inexactly. The time to live is never shortened.
-- Adding comes first of all writes: a server whose memory is full refuses only the first write of a script.
local quota = KEYS[1]
local at = redis.call('ZSCORE', quota, ARGV[1])
if at and tonumber(at) > tonumber(ARGV[3]) then
  return 1
end
for i = 5, #ARGV, 2 do
  if redis.call('ZCOUNT', quota, ARGV[i + 1], '+inf') >= tonumber(ARGV[i]) then
    return 0
  end
end
redis.call('ZADD', quota, ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', quota, '-inf', ARGV[3])
if redis.call('PTTL', quota) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', quota, ARGV[4])
end
return 1
