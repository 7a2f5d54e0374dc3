-- status_poison: the first event that each consumer could not fold, where the caller may see whose it is.
--
-- Caller   event_store/waits.py

SELECT DISTINCT ON (p.kind, p.consumer, p.generation)
       p.kind, p.consumer, p.generation, p.tenant, p.table_name, p.key, p.event_type, p.error
  FROM {namespace}.parked_events AS p WHERE p.error IS NOT NULL
 ORDER BY p.kind, p.consumer, p.generation, p.id
