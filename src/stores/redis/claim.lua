-- Makes an index entry name a partition, unless it names another one.
--
-- KEYS[1]  the index entry: the partition as it stands in keys
-- ARGV[1]  the partition
-- ARGV[2]  how long the entry must live from now on, in milliseconds
--
-- Returns how long the entry lives on, in milliseconds, and 0 when it names another partition: then nothing is written.
--
-- A script because comparing and writing must be one step, and because a life is never shortened.
local present, life = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
if present then
  if present ~= ARGV[1] then
    return 0
  end
  local left = redis.call('PTTL', KEYS[1])
  if left >= life then
    return left
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', life)
return life
