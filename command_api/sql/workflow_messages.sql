-- workflow_messages: what a workflow has told for one tenant, newest first: not delivered, or all of one stream.
--
--   $1 workflow   $2 tenant   $3 a stream, or null for all   $4 how many at most
--
-- Caller   command_api/workflow_state.py, WorkflowDesk.one

SELECT m.id, m.channel, m.type, m.state, m.attempts, m.last_error, m.stream, m.position, m.created_at
  FROM {namespace}.outgoing_messages AS m
 WHERE m.workflow = $1 AND m.tenant = $2 AND ($3::text IS NULL AND m.state <> 'delivered' OR m.stream = $3)
 ORDER BY m.created_at DESC, m.id
 LIMIT $4
