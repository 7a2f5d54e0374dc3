-- parked: events that wait, in order: those of live projections, and those that workflows have set aside.
--
--   $1 tenant   $2 projection or workflow, or null for all
--
-- Caller   projectors/dead_letters.py

SELECT p.id, p.kind, p.consumer, p.generation, p.partition, p.tenant, p.table_name, p.key, p.position, p.stream,
       p.event_id, p.event_type, p.schema_version, p.error, p.parked_at
  FROM {namespace}.parked_events AS p
 WHERE p.tenant = $1 AND ($2::text IS NULL OR p.consumer = $2)
   AND (p.kind = 'workflow'
        OR p.kind = 'projection' AND EXISTS (
           SELECT FROM {namespace}.projections AS l WHERE l.name = p.consumer AND l.generation = p.generation))
 ORDER BY p.kind, p.consumer, p.partition, p.position, p.id
