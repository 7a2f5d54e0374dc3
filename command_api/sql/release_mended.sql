-- release_mended: let keys go on that a lower version of their workflow could not react to.
--
--   $1 partition   $2 workflows, $3 their versions
--
-- Returns  the workflows of which there were such keys
-- Caller   command_api/workflow_store.py, release_mended; who takes them up is command_api/workflow_runner.py
--
-- What was set aside before versions were noted is let go on once.

UPDATE {namespace}.parked_events AS p SET error = NULL
  FROM unnest($2::text[], $3::integer[]) AS w (name, version)
 WHERE p.kind = 'workflow' AND p.consumer = w.name AND p.partition = $1 AND p.error IS NOT NULL
   AND coalesce(p.consumer_version, 0) < w.version
RETURNING p.consumer AS workflow
