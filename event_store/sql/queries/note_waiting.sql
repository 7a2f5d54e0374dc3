-- note_waiting: say why a consumer stands still in a partition.
--
--   $1 kind   $2 consumer   $3 generation   $4 partition   $5 the reason, in words
--
-- Caller   event_store/checkpoints.py, Checkpoints.note_waiting

UPDATE {namespace}.checkpoints SET waiting_for = $5, updated_at = now()
 WHERE kind = $1 AND consumer = $2 AND generation = $3 AND partition = $4 AND waiting_for IS DISTINCT FROM $5
