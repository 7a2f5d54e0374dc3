-- operations: what operators have asked for, latest first.
--
--   $1 an id, or null   $2 a request key, or null   $3 how many at most
--
-- Caller   event_store/operations.py

SELECT id::text, kind, request, actor, reason, state, asked_at, started_at, ended_at, cancel_asked_at, holder, attempts,
       progress, result, error
  FROM {namespace}.operations
 WHERE ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR request_key = $2)
 ORDER BY id DESC LIMIT $3
