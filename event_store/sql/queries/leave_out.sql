-- leave_out: a workflow never takes up a parked event; who decided that, and why, is kept.
--
--   $1 id of the parked event   $2 actor   $3 reason
--
-- Caller   event_store/parking.py, leave_out

WITH gone AS (
    DELETE FROM {namespace}.parked_events AS p WHERE p.id = $1 AND p.kind = 'workflow'
    RETURNING p.kind, p.consumer, p.partition, p.position, p.table_name, p.tenant, p.key
)
INSERT INTO {namespace}.skipped_events (kind, consumer, partition, position, table_name, tenant, key, actor, reason)
SELECT g.kind, g.consumer, g.partition, g.position, g.table_name, g.tenant, g.key, $2, $3 FROM gone AS g
ON CONFLICT ON CONSTRAINT skipped_events_key DO NOTHING
