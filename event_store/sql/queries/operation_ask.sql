-- operation_ask: write down what an operator asks for, once for each request key.
--
--   $1 id   $2 kind   $3 request as JSON   $4 actor   $5 reason   $6 request key, or null
--
-- Caller   event_store/operations.py, Operations.ask

INSERT INTO {namespace}.operations (id, kind, request, actor, reason, request_key)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT operations_request_key DO NOTHING
