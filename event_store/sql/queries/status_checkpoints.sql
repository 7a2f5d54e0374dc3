-- status_checkpoints: where every consumer stands, with its parked events.
--
-- Caller   event_store/status.py

SELECT c.kind, c.consumer, c.generation, c.partition, c.position, c.waiting_for, coalesce(p.parked, 0) AS parked
  FROM {namespace}.checkpoints AS c
  LEFT JOIN {namespace}.parked_counts_v1() AS p
         ON p.kind = c.kind AND p.consumer = c.consumer AND p.generation = c.generation AND p.partition = c.partition
 WHERE c.kind <> 'side'
 ORDER BY c.kind, c.consumer, c.generation, c.partition
