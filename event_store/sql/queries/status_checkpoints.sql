-- status_checkpoints: where every consumer stands, with its parked events.
--
-- Caller   event_store/status.py

SELECT c.kind, c.consumer, c.generation, c.partition, c.position, c.waiting_for,
       (SELECT count(*) FROM {namespace}.parked_events AS p
         WHERE p.kind = c.kind AND p.consumer = c.consumer AND p.generation = c.generation
           AND p.partition = c.partition) AS parked
  FROM {namespace}.checkpoints AS c
 WHERE c.kind <> 'side'
 ORDER BY c.kind, c.consumer, c.generation, c.partition
