-- let_go_on: have the keys of a workflow's parked events taken up again.
--
--   $1 ids of parked events
--
-- Caller   event_store/parking.py, let_go_on; who takes them up is command_api/workflow_runner.py

UPDATE {namespace}.parked_events AS p SET error = NULL
  FROM {namespace}.parked_events AS chosen
 WHERE chosen.id = ANY ($1::bigint[]) AND chosen.kind = 'workflow'
   AND p.kind = chosen.kind AND p.consumer = chosen.consumer
   AND p.tenant = chosen.tenant AND p.key = chosen.key AND p.error IS NOT NULL
