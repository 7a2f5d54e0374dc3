-- park: set events aside whose reaction failed, and those that wait behind them.
--
--   $1 partition   $2 workflow
--   $3 tenants, $4 keys, $5 positions, $6 streams, $7 event ids, $8 types, $9 schema versions, $10 errors
--   $11 the workflow's version
--
-- Caller   command_api/workflow_store.py, WorkflowStore.write, in the transaction that moves the checkpoint

INSERT INTO {namespace}.parked_events AS p
       (kind, consumer, generation, partition, tenant, table_name, key, position, stream, event_id, event_type,
        schema_version, error, consumer_version)
SELECT 'workflow', $2, 0, $1, e.tenant, '', e.key, e.position, e.stream, e.event_id, e.event_type,
       e.schema_version, e.error, $11
  FROM unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::integer[], $10::text[])
       AS e (tenant, key, position, stream, event_id, event_type, schema_version, error)
ON CONFLICT ON CONSTRAINT parked_events_place DO UPDATE
   SET error = excluded.error, consumer_version = excluded.consumer_version, parked_at = now()
