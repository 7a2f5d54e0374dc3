-- session_waits_v1: what Everfold's own sessions on this server wait for: locks, and statements that take long.
--
--   _seconds  a statement that has run for less is not told
--
-- Returns  one row per session that waits: its application, the beginning of its statement, for how long it has run,
--          what PostgreSQL says it waits for, and who holds the lock it waits for (application, account, process,
--          what that session is doing and since when; null where it is no lock)
-- Caller   event_store/sql/queries/status_waits.sql
--
-- SECURITY DEFINER: sessions of other roles show nothing of themselves otherwise. Statements are told of Everfold's
-- own sessions only; they hold no values, which travel as parameters. Of whoever holds a lock only who it is.

CREATE FUNCTION {namespace}.session_waits_v1(_seconds double precision)
RETURNS TABLE (application text, statement text, seconds double precision, event text, holder text, holder_user text,
               holder_pid integer, holder_state text, holder_seconds double precision)
LANGUAGE sql STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT s.application_name, left(s.query, 1000), extract(epoch FROM clock_timestamp() - s.query_start),
           concat_ws(' ', s.wait_event_type, s.wait_event), h.application_name, h.usename::text, h.pid, h.state,
           extract(epoch FROM clock_timestamp() - coalesce(h.xact_start, h.query_start))
      FROM pg_stat_activity AS s
      LEFT JOIN LATERAL unnest(pg_blocking_pids(s.pid)) AS blocking (pid) ON s.wait_event_type = 'Lock'
      LEFT JOIN pg_stat_activity AS h ON h.pid = blocking.pid
     WHERE s.datname = current_database() AND s.application_name LIKE 'everfold-%' AND s.state = 'active'
       AND s.pid <> pg_backend_pid() AND s.query_start < clock_timestamp() - make_interval(secs => _seconds)
$function$;

REVOKE EXECUTE ON FUNCTION {namespace}.session_waits_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {namespace}.session_waits_v1 TO {namespace}_feed, {namespace}_query;
