-- forget_lost_parked_events: forget lost events that were set aside.
--
--   $1 partition   $2 the last position that the log still has
--
-- Returns  one row for each that is forgotten
-- Caller   event_store/recovery.py

DELETE FROM {namespace}.parked_events WHERE partition = $1 AND position > $2 AND kind = 'workflow' RETURNING position
