-- documents_begin: start a partition's range anew, unless it already ends where the tables stand.
--
--   KEYS[1]   the partition's mark
--   ARGV[1]   a mark of just the tables' checkpoint;  ARGV[2] its lifetime in seconds
--
-- Returns  1 when a new range has begun, else 0
-- Caller   infra/documents.py, DocumentWriter.begin
--
-- A mark beyond the checkpoint is another writer's, which holds the partition by now: it stays.

local mark = redis.call("GET", KEYS[1])
local checkpoint = tonumber(string.sub(ARGV[1], 17, 32), 16)
if mark then
  local ends = tonumber(string.sub(mark, 17, 32), 16)
  if ends > checkpoint or string.sub(mark, 17, 48) == string.sub(ARGV[1], 17, 48) then
    return 0
  end
end
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
return 1
