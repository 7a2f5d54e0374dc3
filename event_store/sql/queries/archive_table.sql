-- archive_table: what has become of a range's table.
--
--   $1 its name with its schema
--
-- Returns  is_there; is_attached, is_pending: whether it is a part of the log, or on its way out
-- Caller   event_store/archive.py

SELECT t.oid IS NOT NULL AS is_there,
       i.inhrelid IS NOT NULL AS is_attached,
       coalesce(i.inhdetachpending, false) AS is_pending
  FROM (SELECT to_regclass($1::text)::oid AS oid) AS t
  LEFT JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = t.oid
