-- turn_end: say that a reader's load has come to its end, unless the turn is another's by now.
--
--   KEYS[1]   the turn
--   ARGV[1]   whose it was;  ARGV[2] milliseconds for which it goes on, 0: it ends;  ARGV[3] what it says from now on
--
-- Returns  1 where the turn was still the caller's
-- Caller   query_api/turns.py

if redis.call("GET", KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == "0" then
  redis.call("DEL", KEYS[1])
else
  redis.call("SET", KEYS[1], ARGV[3], "PX", ARGV[2])
end
return 1
