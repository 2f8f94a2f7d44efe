-- Counts a use of a quota if every window has room.
--
-- KEYS[1]  the quota: a sorted set of uses by their time in milliseconds. One member, the empty one, is no use: its score is
--          the longest window that was ever asked for, as a negative power of 1.006, so that it stands before all uses. It
--          is rounded up by less than a hundredth, and takes three bytes, which keeps the set of a first use within 32
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
local BASE = math.log(1.006)
local quota, now, asked = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('ZSCORE', quota, '')
local power, longest = 1 + math.ceil(math.log(asked) / BASE), asked
if known and -tonumber(known) >= power then
  power = -tonumber(known)
  longest = math.max(asked, math.ceil(math.exp((power - 1) * BASE)))
end
local at = known and redis.call('ZSCORE', quota, ARGV[1])
local answer = 1
if at and tonumber(at) > now - asked then
  answer = 2
else
  for i = 6, #ARGV, 2 do
    local most = tonumber(ARGV[i])
    if most == 0 or (known and redis.call('ZCOUNT', quota, ARGV[i + 1], '+inf') >= most) then
      answer = 0
      break
    end
  end
end
if answer == 1 then
  redis.call('ZADD', quota, now, ARGV[1], -power, '')
  if known then
    redis.call('ZREMRANGEBYSCORE', quota, 0, now - longest)
    redis.call('ZREMRANGEBYRANK', quota, 1, -1 - tonumber(ARGV[5]))
  end
elseif known and power > -tonumber(known) then
  redis.call('ZADD', quota, -power, '')
end
if answer == 1 or known then
  local life = longest + tonumber(ARGV[4])
  if redis.call('PTTL', quota) < life then
    redis.call('PEXPIRE', quota, life)
  end
end
return answer
