-- hand_over_timers: let go of the timers of a tenant that leaves a partition.
--
--   $1 partition   $2 workflow   $3 tenant   $4 the partition it goes to
--   $5 where it arrived there; null: not yet, or not known
--
-- Caller   command_api/scheduled.py, ScheduledCommands.hand_over
--
-- They stand under -1 - p until the workflow takes the arrival in partition p, so nobody fires them before. It cannot
-- take it meanwhile: its checkpoint there is held.

WITH there AS MATERIALIZED (
    SELECT c.position FROM {namespace}.checkpoints AS c
     WHERE c.kind = 'workflow' AND c.consumer = $2 AND c.generation = 0 AND c.partition = $4
       FOR SHARE
)
UPDATE {namespace}.scheduled_commands AS s
   SET partition = CASE WHEN (SELECT there.position FROM there) >= $5::bigint THEN $4 ELSE -1 - $4 END
 WHERE s.partition = $1 AND s.workflow = $2 AND s.tenant = $3
