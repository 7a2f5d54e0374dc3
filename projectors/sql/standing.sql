-- standing: what a projection's generation has set aside in a partition.
--
--   $1 projection   $2 generation   $3 partition
--
-- Returns  rows with parked events (position null), and what operators left out (position of the event)
-- Caller   projectors/writing.py, read_standing
--
-- Rows of all partitions: those of a tenant that has moved stay parked, and of other tenants there is no event here.

SELECT DISTINCT p.table_name, p.tenant, p.key, NULL::bigint AS position
  FROM {namespace}.parked_events AS p
 WHERE p.kind = 'projection' AND p.consumer = $1 AND p.generation = $2
UNION ALL
SELECT s.table_name, s.tenant, s.key, s.position
  FROM {namespace}.skipped_events AS s
 WHERE s.kind = 'projection' AND s.consumer = $1 AND s.partition = $3
