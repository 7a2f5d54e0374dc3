-- workflow_aside: events that a workflow has set aside for one tenant, in order.
--
--   $1 workflow   $2 tenant   $3 a stream, or null for all   $4 how many at most
--
-- Caller   command_api/workflow_state.py, WorkflowDesk.one

SELECT p.id, p.key, p.partition, p.position, p.stream, p.event_type, p.error, p.parked_at
  FROM {namespace}.parked_events AS p
 WHERE p.kind = 'workflow' AND p.consumer = $1 AND p.tenant = $2
   AND ($3::text IS NULL OR p.stream = $3)
 ORDER BY p.id
 LIMIT $4
