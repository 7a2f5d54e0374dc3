-- hold_checkpoint: see that a workflow's checkpoint is where its holder believes it to be, and keep it there.
--
--   $1 workflow   $2 partition   $3 position, $4 hash and $5 revision as the caller believes them to be
--
-- Returns  one row if it is there
-- Caller   command_api/workflow_store.py, WorkflowStore.hold, in a transaction that does not move it

SELECT 1 FROM {namespace}.checkpoints AS c
 WHERE c.kind = 'workflow' AND c.consumer = $1 AND c.generation = 0 AND c.partition = $2
   AND c.position = $3 AND c.commit_hash = $4 AND c.revision = $5
   FOR UPDATE
