-- Reads an index entry, and records of the partition that it names.
--
-- KEYS[1]   the index entry
-- ARGV[1…]  the records, as they are named in keys after the partition
--
-- Returns nothing where there is no entry, and otherwise its remaining life in milliseconds, the partition, and the records
-- in order.
--
-- A script because only the entry tells the keys of the records. For one server only: a cluster keeps the entry and the
-- records in different slots, and must be asked for the records in a second trip.
local partition = redis.call('GET', KEYS[1])
if not partition then
  return false
end
local answer = { redis.call('PTTL', KEYS[1]), partition }
for i, name in ipairs(ARGV) do
  answer[i + 2] = redis.call('GET', 'otp:{' .. partition .. '}:' .. name)
end
return answer
