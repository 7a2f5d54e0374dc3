-- documents_begin: start a partition's range anew, unless it already ends where the tables stand.
--
--   KEYS[1]   the partition's mark
--   ARGV[1]   a mark of just the tables' checkpoint;  ARGV[2] its lifetime in seconds
--
-- Returns  the mark that stays because it speaks of more than the checkpoint, or of another commit; else nothing
-- Caller   infra/documents.py, DocumentWriter.begin
--
-- Such a mark is another writer's, which holds the partition by now, or it is of a history that was lost: the log
-- knows which.

local mark = redis.call("GET", KEYS[1])
local checkpoint = tonumber(string.sub(ARGV[1], 17, 32), 16)
if mark then
  local ends = tonumber(string.sub(mark, 17, 32), 16)
  local hash, same = string.sub(mark, 49, 56), string.sub(ARGV[1], 49, 56)
  if ends > checkpoint or (ends == checkpoint and hash ~= same and hash ~= "00000000") then
    return mark
  end
  if string.sub(mark, 17, 48) == string.sub(ARGV[1], 17, 48) then
    return false
  end
end
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
return false
