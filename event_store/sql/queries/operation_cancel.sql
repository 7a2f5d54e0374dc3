-- operation_cancel: ask for an end; what nobody has begun is cancelled at once.
--
--   $1 id
--
-- Returns  its state afterwards; no row where it has ended before or is not there
-- Caller   event_store/operations.py, Operations.cancel

UPDATE {namespace}.operations
   SET cancel_asked_at = coalesce(cancel_asked_at, clock_timestamp()),
       state = CASE state WHEN 'waiting' THEN 'cancelled' ELSE state END,
       ended_at = CASE state WHEN 'waiting' THEN clock_timestamp() END
 WHERE id = $1 AND state IN ('waiting', 'running')
RETURNING state
