-- operation_end: say what became of an operation, or (as 'waiting') hand it back to whoever takes it up next.
--
--   $1 id   $2 who   $3 state   $4 result as JSON, or null   $5 error, or null   $6 attempts that do not count
--
-- Caller   event_store/operations.py, Operations.end and Operations.hand_back

UPDATE {namespace}.operations
   SET state = $3, result = $4, error = $5, holder = NULL, held_until = NULL, attempts = attempts - $6,
       ended_at = CASE WHEN $3 = 'waiting' THEN NULL ELSE clock_timestamp() END
 WHERE id = $1 AND holder = $2 AND state = 'running'
