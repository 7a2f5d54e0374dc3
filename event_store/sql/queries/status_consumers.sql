-- status_consumers: how far the relay and the workflows are.
--
-- Returns  kind, consumer, partition, position, waiting_for
-- Caller   event_store/status.py

SELECT c.kind, c.consumer, c.partition, c.position, c.waiting_for
  FROM {namespace}.checkpoints AS c
 WHERE c.kind IN ('relay', 'workflow')
 ORDER BY c.kind, c.consumer, c.partition
