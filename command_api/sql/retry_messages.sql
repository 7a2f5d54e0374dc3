-- retry_messages: have messages that were given up, or went nowhere, tried again from the first attempt on.
--
--   $1 tenant   $2 ids, or null for all   $3 a channel, or null for all   $4 actor   $5 reason
--
-- Returns  their ids; they are sent with the same ones
-- Caller   command_api/deliveries.py, Deliveries.retry

WITH chosen AS (
    UPDATE {namespace}.outgoing_messages AS m
       SET state = 'waiting', ended_at = NULL, attempts = 0, try_at = clock_timestamp()
     WHERE m.tenant = $1 AND m.state IN ('dead', 'unrouted')
       AND ($2::text[] IS NULL OR m.id = ANY ($2)) AND ($3::text IS NULL OR m.channel = $3)
    RETURNING m.id
), noted AS (
    INSERT INTO {namespace}.operator_acts (actor, act, subject, reason)
    SELECT $4, 'deliveries retry', string_agg(c.id, ' '), $5 FROM chosen AS c HAVING count(*) > 0
)
SELECT c.id FROM chosen AS c
