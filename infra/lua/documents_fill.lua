-- documents_fill: put rows that a reader has loaded from the tables, unless the cache may know better.
--
--   KEYS[1]   the partition's mark;  KEYS[2…] the documents
--   ARGV[1]   the checkpoint that the rows were read at;  ARGV[2] a mark of just that checkpoint
--   ARGV[3], ARGV[4]   lifetimes in seconds: of documents, of the mark;  ARGV[5…] the documents' values
--
-- Returns  how many were put
-- Caller   query_api/cache.py
--
-- Where the mark has passed the checkpoint, a newer document may have been written and evicted again.

local as_of = tonumber(ARGV[1])
local mark = redis.call("GET", KEYS[1])
if not mark then
  redis.call("SET", KEYS[1], ARGV[2], "EX", ARGV[4])
elseif tonumber(string.sub(mark, 33, 48), 16) > as_of then
  return 0
end

local put = 0
for index = 2, #KEYS do
  local found = redis.call("GETRANGE", KEYS[index], 1, 16)
  if found == "" or tonumber(found, 16) < as_of then
    redis.call("SET", KEYS[index], ARGV[index + 3], "EX", ARGV[3])
    put = put + 1
  end
end
return put
