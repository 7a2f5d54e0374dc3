-- documents_doubt: have readers ask the tables for some documents, whose rows were written outside of any batch.
--
--   KEYS[1]   the partition's mark;  KEYS[2…] the documents
--   ARGV[1]   the checkpoint at which the rows were written;  ARGV[2] the documents' lifetime in seconds
--   ARGV[3]   the value: "ask the tables" as of that checkpoint
--
-- Caller   infra/documents.py, DocumentWriter.doubt
--
-- It stands as of the furthest that the mark speaks of, so a filler that read before the rows were written is late.

local value = ARGV[3]
local mark = redis.call("GET", KEYS[1])
if mark and tonumber(string.sub(mark, 33, 48), 16) > tonumber(ARGV[1]) then
  value = string.sub(value, 1, 1) .. string.sub(mark, 33, 48) .. string.sub(value, 18)
end
for index = 2, #KEYS do
  redis.call("SET", KEYS[index], value, "EX", ARGV[2])
end
