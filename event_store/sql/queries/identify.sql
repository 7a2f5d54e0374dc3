-- identify: give the log its identity, unless it has one.
--
--   one parameter: the identity
--
-- Caller   event_store/migrate.py

INSERT INTO {namespace}.log_identity (id) VALUES (%s) ON CONFLICT ON CONSTRAINT log_identity_key DO NOTHING
