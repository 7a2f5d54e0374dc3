-- status_parked: how many events are parked, by consumer.
--
-- Returns  kind, consumer, generation, events
-- Caller   event_store/status.py

SELECT e.kind, e.consumer, e.generation, count(*) AS events
  FROM {namespace}.parked_events AS e
 GROUP BY e.kind, e.consumer, e.generation
