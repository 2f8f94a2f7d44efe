-- Counts a use of a quota if every window has room.
--
-- KEYS[1]  the quota: a sorted set of uses by their time in milliseconds. One member, the empty one, is no use: its score is
--          the longest window that was ever asked for, in milliseconds and negative, so that it stands before all uses
-- ARGV[1]  the use
-- ARGV[2]  the time of the use
-- ARGV[3]  the longest window of this call, in milliseconds
-- ARGV[4]  how much longer than the longest window the quota is kept, in milliseconds
-- ARGV[5]  how many uses are kept at most
-- ARGV[6…] for each window: its maximum, and the time after which uses count in it, as a bound of ZCOUNT
--
-- Returns 1 when the use counts from now on, 2 when it counted already, and 0 when a window is full.
--
-- A script because counting and adding must be one step: parallel calls may never pass the maximum. Uses are forgotten by
-- the longest window ever asked for: a shorter one may not forget what a longer one counts. The newest uses tell for every
-- window whether it is full, so their number is bounded without a loss.
-- Adding comes first of all writes: a server whose memory is full refuses only the first write of a script.
local quota, now = KEYS[1], tonumber(ARGV[2])
local known = -tonumber(redis.call('ZSCORE', quota, '') or 0)
local most = tonumber(ARGV[6])
for i = 8, #ARGV, 2 do
  most = math.min(most, tonumber(ARGV[i]))
end
if known == 0 and most > 0 then
  -- The first use of a quota finds room in every window, and nothing to forget.
  redis.call('ZADD', quota, ARGV[2], ARGV[1], -tonumber(ARGV[3]), '')
  redis.call('PEXPIRE', quota, tonumber(ARGV[3]) + tonumber(ARGV[4]))
  return 1
end
local longest = math.max(known, tonumber(ARGV[3]))
local answer = 1
local at = redis.call('ZSCORE', quota, ARGV[1])
if at and tonumber(at) > now - longest then
  answer = 2
else
  for i = 6, #ARGV, 2 do
    if redis.call('ZCOUNT', quota, ARGV[i + 1], '+inf') >= tonumber(ARGV[i]) then
      answer = 0
      break
    end
  end
end
if answer == 1 then
  redis.call('ZADD', quota, ARGV[2], ARGV[1], -longest, '')
  redis.call('ZREMRANGEBYSCORE', quota, 0, now - longest)
  redis.call('ZREMRANGEBYRANK', quota, 1, -1 - tonumber(ARGV[5]))
elseif longest > known then
  redis.call('ZADD', quota, -longest, '')
end
local life = longest + tonumber(ARGV[4])
if redis.call('PTTL', quota) < life then
  redis.call('PEXPIRE', quota, life)
end
return answer
