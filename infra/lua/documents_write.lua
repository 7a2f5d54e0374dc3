-- documents_write: put what one committed batch of a projector left, and move the partition's mark.
--
--   KEYS[1]            the partition's mark: start, end, opened (16 hex digits each), commit hash (8)
--   KEYS[2…]           the documents
--   ARGV[1], ARGV[2]   the checkpoint before and after the batch;  ARGV[3] the hash at the latter
--   ARGV[4], ARGV[5]   1 in the first, in the last call of a batch that needs several
--   ARGV[6], ARGV[7]   lifetimes in seconds: of documents, of the mark;  ARGV[8…] the documents' values
--
-- Returns  nothing, or the mark that the batch comes too late for: then nothing was written
-- Caller   infra/documents.py, DocumentWriter.write
--
-- A later batch's mark makes this one a straggler: its documents may have been written anew and evicted since. In
-- between the calls of one batch the mark says `opened`, so that no filler puts the past in place of an evicted
-- document; if the mark itself is lost in between, the range starts anew where the batch ends.

local before, after = tonumber(ARGV[1]), tonumber(ARGV[2])
local is_first, is_last = ARGV[4] == "1", ARGV[5] == "1"
local mark = redis.call("GET", KEYS[1])
local starts, ends, opened
if mark then
  starts = tonumber(string.sub(mark, 1, 16), 16)
  ends = tonumber(string.sub(mark, 17, 32), 16)
  opened = tonumber(string.sub(mark, 33, 48), 16)
  if opened > after or (ends >= after and after > before) then
    return mark
  end
end

-- Where the mark was evicted and a late filler has made an older one, a straggler may meet what is newer than itself.
for index = 2, #KEYS do
  local there = tonumber(redis.call("GETRANGE", KEYS[index], 1, 16), 16)
  if not there or there <= after then
    redis.call("SET", KEYS[index], ARGV[index + 6], "EX", ARGV[6])
  end
end

local hash = ARGV[3]
if is_last then
  if not mark then
    starts = is_first and before or after
  elseif not is_first and opened ~= after then
    starts = after
  elseif ends ~= before then
    starts = before
  end
  ends, opened = after, after
elseif is_first then
  if mark then
    opened, hash = after, string.sub(mark, 49, 56)
  else
    starts, ends, opened, hash = before, before, after, "00000000"
  end
else
  return false
end
redis.call("SET", KEYS[1], string.format("%016x%016x%016x%s", starts, ends, opened, hash), "EX", ARGV[7])
return false
