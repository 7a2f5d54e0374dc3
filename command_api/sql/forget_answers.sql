-- forget_answers: the reactions to these events have ended, so what they were told is needed no more.
--
--   $1 partition   $2 workflow   $3 positions of the events
--
-- Caller   command_api/workflow_store.py, WorkflowStore.write

DELETE FROM {namespace}.workflow_answers
 WHERE partition = $1 AND workflow = $2 AND position = ANY ($3::bigint[])
