-- operation_renew: say that an operation is still worked on, and how far it is.
--
--   $1 id   $2 who   $3 for how many seconds   $4 progress as JSON
--
-- Returns  when its end was asked for; no row where somebody else has it
-- Caller   event_store/operations.py, Operations.renew

UPDATE {namespace}.operations
   SET held_until = clock_timestamp() + make_interval(secs => $3), progress = $4
 WHERE id = $1 AND holder = $2 AND state = 'running'
RETURNING cancel_asked_at
