-- era_v1: which life of this database it is: what is kept elsewhere about another one says nothing of it.
--
-- Returns  the server's timeline, which a promotion and a recovery to a point in time change; the last epoch, which
--          whoever takes up a restored copy opens; and the database's number, which a copy by its contents changes
-- Caller   projectors/sql/live.sql, query_api/sql/applied.sql
--
-- A server in recovery has no timeline of its own yet.

CREATE FUNCTION {namespace}.era_v1() RETURNS text
LANGUAGE sql VOLATILE
AS $function$
    SELECT CASE WHEN pg_is_in_recovery() THEN 'r'
                ELSE ltrim(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), '0') END
           || '.' || (SELECT coalesce(max(e.epoch), 0) FROM {namespace}.epochs AS e)
           || '.' || (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
$function$;
