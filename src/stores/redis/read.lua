-- Reads records of one partition.
--
-- KEYS[1…]  the records
--
-- Returns the records in order; nothing where there is none.
--
-- A script because what replicas must confirm is asked together with a mark (`scripts.rs`). Otherwise MGET does.
local answer = {}
for i, key in ipairs(KEYS) do
  answer[i] = redis.call('GET', key)
end
return answer
