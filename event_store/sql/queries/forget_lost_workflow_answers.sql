-- forget_lost_workflow_answers: forget what reactions to lost events had been told.
--
--   $1 partition   $2 the last position that the log still has
--
-- Returns  one row for each that is forgotten
-- Caller   event_store/recovery.py

DELETE FROM {namespace}.workflow_answers WHERE partition = $1 AND position > $2 RETURNING position
