-- released_members: which workflows have set-aside events that an operator lets go on.
--
--   $1 partitions, $2 workflows    one element per pair that the caller holds
--
-- Returns  the pairs with a key whose first event has no error any more
-- Caller   command_api/timekeeper.py, Timekeeper

SELECT DISTINCT first.partition, first.workflow
  FROM (SELECT DISTINCT ON (p.partition, p.consumer, p.tenant, p.key)
               p.partition, p.consumer AS workflow, p.error
          FROM {namespace}.parked_events AS p
          JOIN unnest($1::integer[], $2::text[]) AS h (partition, workflow)
            ON h.partition = p.partition AND h.workflow = p.consumer
         WHERE p.kind = 'workflow'
         ORDER BY p.partition, p.consumer, p.tenant, p.key, p.position) AS first
 WHERE first.error IS NULL
