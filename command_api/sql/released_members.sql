-- released_members: which workflows have set-aside events that an operator lets go on.
--
--   $1 partitions, $2 workflows    one element per pair that the caller holds
--
-- Returns  the pairs with a key whose first event has no error any more
-- Caller   command_api/timekeeper.py, Timekeeper
--
-- Which event is the first is told over all partitions, as in `released`.

SELECT DISTINCT first.partition, first.workflow
  FROM (SELECT DISTINCT ON (p.workflow, p.tenant, p.key) p.partition, p.workflow, p.error
          FROM (SELECT o.partition, o.consumer AS workflow, o.tenant, o.key, o.position, o.error,
                       min(o.id) OVER (PARTITION BY o.consumer, o.tenant, o.key, o.partition) AS since
                  FROM {namespace}.parked_events AS o
                 WHERE o.kind = 'workflow' AND o.consumer = ANY ($2::text[])) AS p
         ORDER BY p.workflow, p.tenant, p.key, p.since, p.position) AS first
  JOIN unnest($1::integer[], $2::text[]) AS h (partition, workflow)
    ON h.partition = first.partition AND h.workflow = first.workflow
 WHERE first.error IS NULL
