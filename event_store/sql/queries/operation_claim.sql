-- operation_claim: take up the oldest operation that nobody carries out.
--
--   $1 who takes it   $2 for how many seconds   $3 the kinds that it carries out   $4 holders that are known to be dead
--   $5 an id, or null for any
--
-- Returns  it, if there is one
-- Caller   event_store/operations.py, Operations.claim

UPDATE {namespace}.operations AS o
   SET state = 'running', holder = $1, held_until = clock_timestamp() + make_interval(secs => $2),
       attempts = o.attempts + 1, started_at = coalesce(o.started_at, clock_timestamp())
 WHERE o.id = (
       SELECT c.id FROM {namespace}.operations AS c
        WHERE c.state IN ('waiting', 'running')
          AND (c.state = 'waiting' OR c.held_until < clock_timestamp() OR c.holder = ANY ($4::text[]))
          AND c.kind = ANY ($3::text[]) AND ($5::uuid IS NULL OR c.id = $5)
        ORDER BY c.id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING o.id::text, o.kind, o.request, o.actor, o.reason, o.state, o.asked_at, o.started_at, o.ended_at,
          o.cancel_asked_at, o.holder, o.attempts, o.progress, o.result, o.error
