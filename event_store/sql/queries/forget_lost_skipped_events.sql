-- forget_lost_skipped_events: forget decisions to leave out lost events, which would hit others at their positions.
--
--   $1 partition   $2 the last position that the log still has
--
-- Returns  one row for each that is forgotten
-- Caller   event_store/recovery.py

DELETE FROM {namespace}.skipped_events WHERE partition = $1 AND position > $2 RETURNING position
