-- unpark: events that were set aside have been taken up now.
--
--   $1 partition   $2 workflow   $3 tenants and $4 keys of what was taken up   $5 positions of what has ended
--
-- Caller   command_api/workflow_store.py, WorkflowStore.unpark

DELETE FROM {namespace}.parked_events AS p
 USING unnest($3::text[], $4::text[]) AS place (tenant, key)
 WHERE p.kind = 'workflow' AND p.consumer = $2 AND p.partition = $1
   AND p.tenant = place.tenant AND p.key = place.key AND p.position = ANY ($5::bigint[])
