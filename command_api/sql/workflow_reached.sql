-- workflow_reached: how far a workflow is in a partition.
--
--   $1 workflow   $2 partition
--
-- Caller   command_api/workflow_state.py, WorkflowDesk.one

SELECT c.position FROM {namespace}.checkpoints AS c
 WHERE c.kind = 'workflow' AND c.consumer = $1 AND c.generation = 0 AND c.partition = $2
