-- released: the set-aside events of keys that an operator lets go on, oldest first.
--
--   $1 partition   $2 workflow
--
-- Returns  tenant, key and position of each event of the keys whose first event has no error any more
-- Caller   command_api/workflow_store.py, WorkflowStore.released
--
-- A tenant that moved may have events of a key in several partitions: those set aside first come first, and the others
-- wait until these are gone.

SELECT p.tenant, p.key, p.position
  FROM {namespace}.parked_events AS p
 CROSS JOIN LATERAL (
       SELECT o.partition, o.error,
              min(o.id) OVER (PARTITION BY o.partition) AS since
         FROM {namespace}.parked_events AS o
        WHERE o.kind = 'workflow' AND o.consumer = $2 AND o.tenant = p.tenant AND o.key = p.key
        ORDER BY since, o.position
        LIMIT 1) AS first
 WHERE p.kind = 'workflow' AND p.consumer = $2 AND p.partition = $1
   AND first.partition = $1 AND first.error IS NULL
 ORDER BY p.position
