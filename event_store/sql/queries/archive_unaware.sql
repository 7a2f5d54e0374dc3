-- archive_unaware: how many statements run that may have begun before a transaction ended.
--
--   $1 the transaction's id, as text
--
-- Caller   event_store/archive.py
--
-- backend_xmin is the oldest transaction that a statement's snapshot may take for unfinished: a statement that began
-- after another one had ended, and after all older ones had, has a younger one.

SELECT count(*)
  FROM pg_catalog.pg_stat_activity AS a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_xmin IS NOT NULL
   AND age(a.backend_xmin) >= age($1::text::xid8::xid)
