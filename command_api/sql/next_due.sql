-- next_due: when the next timer of each workflow is to be looked at.
--
--   $1 partitions, $2 workflows    one element per pair that the caller holds
--
-- Returns  the pairs that have a timer: partition, workflow, seconds until then (0 or less: now), and the time now
-- Caller   command_api/timekeeper.py, Timekeeper

SELECT h.partition, h.workflow, clock_timestamp() AS now,
       extract(epoch FROM next.try_at - clock_timestamp())::double precision AS seconds
  FROM unnest($1::integer[], $2::text[]) AS h (partition, workflow)
 CROSS JOIN LATERAL (
       SELECT s.try_at FROM {namespace}.scheduled_commands AS s
        WHERE s.partition = h.partition AND s.workflow = h.workflow
        ORDER BY s.try_at
        LIMIT 1) AS next
