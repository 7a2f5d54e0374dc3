-- move_arrived_at: put down the time of an arrival, in its own transaction, once it is known.
--
--   $1 tenant, $2 number of the move   $3 when the arrival was recorded
--
-- Caller   event_store/moving.py, Mover._arrive

UPDATE {namespace}.tenant_moves AS m SET arrived_at = $3 WHERE m.tenant = $1 AND m.number = $2
