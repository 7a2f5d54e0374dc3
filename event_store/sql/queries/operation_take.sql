-- operation_take: write down an operation that its asker carries out, so that nobody else takes it up meanwhile.
--
--   $1 id   $2 kind   $3 request as JSON   $4 actor   $5 reason   $6 who carries it out   $7 for how many seconds
--
-- Caller   event_store/operations.py, Operations.take

INSERT INTO {namespace}.operations (id, kind, request, actor, reason, state, holder, held_until, attempts, started_at)
VALUES ($1, $2, $3, $4, $5, 'running', $6, clock_timestamp() + make_interval(secs => $7), 1, clock_timestamp())
