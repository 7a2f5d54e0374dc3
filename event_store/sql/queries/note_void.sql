-- note_void: say of a generation of a projection that it rests on events that the log has lost.
--
--   $1 projection   $2 generation   $3 partition   $4 the words
--
-- Caller   event_store/recovery.py

UPDATE {namespace}.checkpoints AS c
   SET waiting_for = $4, updated_at = now()
 WHERE c.kind = 'projection' AND c.consumer = $1 AND c.generation = $2 AND c.partition = $3
