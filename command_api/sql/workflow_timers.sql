-- workflow_timers: a workflow's timers for one tenant, those that are due first before others.
--
--   $1 workflow   $2 tenant   $3 ids of the events that they follow from, or null for all   $4 how many at most
--   $5 the tenant's partition
--
-- Caller   command_api/workflow_state.py, WorkflowDesk.one

SELECT s.key, s.due_at, s.try_at, s.attempts, s.last_error, s.command, s.causation_id
  FROM {namespace}.scheduled_commands AS s
 WHERE s.workflow = $1 AND s.tenant = $2 AND ($3::text[] IS NULL OR s.causation_id = ANY ($3))
   AND s.partition IN ($5, -1 - $5)
 ORDER BY s.due_at, s.key
 LIMIT $4
