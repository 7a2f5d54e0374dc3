-- lock_tenant: keep other placements of a tenant waiting until this transaction ends.
--
--   $1 tenant
--
-- Caller   event_store/postgres.py, PostgresLog.place_tenant

SELECT pg_advisory_xact_lock(hashtextextended($1, hashtext('{namespace}/placement')))
