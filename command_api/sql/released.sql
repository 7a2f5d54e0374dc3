-- released: the set-aside events of keys that an operator lets go on, oldest first.
--
--   $1 partition   $2 workflow
--
-- Returns  tenant, key and position of each event of the keys whose first event has no error any more
-- Caller   command_api/workflow_store.py, WorkflowStore.released

SELECT p.tenant, p.key, p.position
  FROM {namespace}.parked_events AS p
 WHERE p.kind = 'workflow' AND p.consumer = $2 AND p.partition = $1
   AND EXISTS (
       SELECT FROM (SELECT first.error FROM {namespace}.parked_events AS first
                     WHERE first.kind = 'workflow' AND first.consumer = $2 AND first.partition = $1
                       AND first.tenant = p.tenant AND first.key = p.key
                     ORDER BY first.position
                     LIMIT 1) AS first
        WHERE first.error IS NULL)
 ORDER BY p.position
