-- drop_messages: take away messages that were given up, or went nowhere: they are never sent.
--
--   $1 tenant   $2 ids   $3 actor   $4 reason
--
-- Returns  their ids
-- Caller   command_api/deliveries.py, Deliveries.drop

WITH chosen AS (
    DELETE FROM {namespace}.outgoing_messages AS m
     WHERE m.tenant = $1 AND m.state IN ('dead', 'unrouted') AND m.id = ANY ($2::text[])
    RETURNING m.id
), noted AS (
    INSERT INTO {namespace}.operator_acts (actor, act, subject, reason)
    SELECT $3, 'deliveries drop', string_agg(c.id, ' '), $4 FROM chosen AS c HAVING count(*) > 0
)
SELECT c.id FROM chosen AS c
