-- skip: leave an event out of a projection's fold at one row, for good.
--
--   $1 id of the parked event   $2 actor   $3 reason
--
-- Caller   projectors/dead_letters.py, skip

INSERT INTO {namespace}.skipped_events (kind, consumer, partition, position, table_name, tenant, key, actor, reason)
SELECT p.kind, p.consumer, p.partition, p.position, p.table_name, p.tenant, p.key, $2, $3
  FROM {namespace}.parked_events AS p WHERE p.id = $1
ON CONFLICT ON CONSTRAINT skipped_events_key DO NOTHING
