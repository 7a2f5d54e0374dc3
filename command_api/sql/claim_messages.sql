-- claim_messages: take up messages whose time has come, so that no other process does for the length of an attempt.
--
--   $1 channels, $2 tenants (null: those that have no route of their own), $3 how many at most, $4 how long an attempt
--   may take    one element per route; routes that can take up nothing now are there with 0
--
-- Returns  the route's number, from 0, and the message; `attempts` counts this one
-- Caller   command_api/outgoing.py, OutgoingMessages.claim
--
-- Of each route those that have waited longest come first. The attempt is counted before it is made, so a message that
-- kills its process is not tried for ever.

WITH routes AS (
    SELECT r.channel, r.tenant, r.free, r.takes, r.number - 1 AS number
      FROM unnest($1::text[], $2::text[], $3::integer[], $4::interval[])
           WITH ORDINALITY AS r (channel, tenant, free, takes, number)
), chosen AS (
    SELECT m.id, r.takes, r.number
      FROM routes AS r
     CROSS JOIN LATERAL (
           SELECT w.id FROM {namespace}.outgoing_messages AS w
            WHERE w.state = 'waiting' AND w.channel = r.channel AND w.try_at <= clock_timestamp()
              AND CASE WHEN r.tenant IS NOT NULL THEN w.tenant = r.tenant
                       ELSE NOT EXISTS (SELECT FROM routes AS own
                                         WHERE own.channel = r.channel AND own.tenant = w.tenant) END
            ORDER BY w.try_at
            LIMIT r.free
              FOR UPDATE SKIP LOCKED) AS m
     WHERE r.free > 0
)
UPDATE {namespace}.outgoing_messages AS m
   SET attempts = m.attempts + 1, try_at = clock_timestamp() + chosen.takes
  FROM chosen
 WHERE m.id = chosen.id
RETURNING chosen.number::integer, m.id, m.tenant, m.workflow, m.channel, m.type, m.summary, m.body, m.created_at,
          m.attempts, m.traceparent
