-- parked: events that wait, in order.
--
--   $1 tenant   $2 projection or null for all
--
-- Caller   projectors/dead_letters.py

SELECT p.id, p.consumer, p.generation, p.partition, p.tenant, p.table_name, p.key, p.position, p.stream, p.event_id,
       p.event_type, p.schema_version, p.error, p.parked_at
  FROM {namespace}.parked_events AS p
  JOIN {namespace}.projections AS l ON l.name = p.consumer AND l.generation = p.generation
 WHERE p.kind = 'projection' AND p.tenant = $1 AND ($2::text IS NULL OR p.consumer = $2)
 ORDER BY p.consumer, p.partition, p.position, p.id
