-- set_back_checkpoint: put a consumer back to where the log still has what it rests on.
--
--   $1 kind   $2 consumer   $3 generation   $4 partition   $5 position   $6 hash   $7 time of that commit
--
-- Caller   event_store/recovery.py
--
-- The revision is raised, so a process that believes itself ahead is fenced off.

UPDATE {namespace}.checkpoints AS c
   SET position = $5, commit_hash = $6, recorded_at = $7, revision = c.revision + 1, waiting_for = NULL,
       updated_at = now()
 WHERE c.kind = $1 AND c.consumer = $2 AND c.generation = $3 AND c.partition = $4
