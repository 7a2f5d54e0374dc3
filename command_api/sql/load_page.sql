-- load_page: what a workflow must know before it takes up a page: the time, former answers, and which keys wait.
--
--   $1 partition   $2 workflow   $3 first position   $4 last position
--
-- Returns  one row: now; answers as a JSON list of [step, answer], null when there are none; the tenants and keys of
--          which events are set aside, as a JSON list of pairs, null when there are none
-- Caller   command_api/workflow_store.py, WorkflowStore.load
--
-- Keys are those of all partitions: what a tenant left behind when it moved holds its keys here too.

SELECT clock_timestamp() AS now,
       (SELECT json_agg(json_build_array(a.step, convert_from(a.answer, 'UTF8')))
          FROM {namespace}.workflow_answers AS a
         WHERE a.partition = $1 AND a.workflow = $2 AND a.position BETWEEN $3 AND $4) AS answers,
       (SELECT json_agg(DISTINCT jsonb_build_array(p.tenant, p.key))
          FROM {namespace}.parked_events AS p
         WHERE p.kind = 'workflow' AND p.consumer = $2) AS held
