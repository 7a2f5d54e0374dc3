-- log_identity: which log this is, and which of its lives.
--
-- Returns  its id, and the number of its last epoch: 0 for the first life
-- Caller   event_store/postgres_reading.py, PostgresReading.identity; event_store/migrate.py

SELECT i.id::text, coalesce((SELECT max(e.epoch) FROM {namespace}.epochs AS e), 0)
  FROM {namespace}.log_identity AS i
