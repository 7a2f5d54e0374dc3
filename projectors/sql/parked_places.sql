-- parked_places: rows of live projections at which events wait since before a time, by the first event that failed.
--
--   $1 projections   $2 partitions   $3 for how many seconds
--
-- Caller   projectors/releasing.py, Releasing

SELECT DISTINCT p.consumer, p.tenant, p.table_name, p.key
  FROM {namespace}.parked_events AS p
  JOIN {namespace}.projections AS l ON l.name = p.consumer AND l.generation = p.generation
 WHERE p.kind = 'projection' AND p.error IS NOT NULL AND p.table_name <> '*'
   AND p.consumer = ANY ($1::text[]) AND p.partition = ANY ($2::integer[])
   AND p.parked_at < clock_timestamp() - make_interval(secs => $3)
 LIMIT 1000
