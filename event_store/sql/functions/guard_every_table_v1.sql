-- guard_every_table_v1: guard all tables of the namespace that have a column `tenant`, and let roles read partitions.
--
-- Returns  how many tables were not guarded before
-- Caller   event_store/migrate.py, migrate, at the end of every migration: a table that its author forgot is
--          guarded; create_partition_v1's tables are
--
-- Reads name the table of one partition of events or commits, because that is planned in a fraction of the time, so
-- roles need to read these tables as they read the table over all of them. Tables of keys are the keeper's, because
-- taking one out without holding up appends (DETACH … CONCURRENTLY) can be done by no function, only by an owner.

CREATE FUNCTION {namespace}.guard_every_table_v1() RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $function$
DECLARE
    _table regclass;
    _made  integer := 0;
BEGIN
    FOR _table IN
        SELECT c.oid FROM pg_class AS c
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
         WHERE c.relnamespace = '{namespace}'::regnamespace AND c.relkind IN ('r', 'p')
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
         ORDER BY c.oid
    LOOP
        PERFORM {namespace}.guard_tenants_v1(_table);
        _made := _made + 1;
    END LOOP;
    FOR _table IN
        SELECT i.inhrelid FROM pg_inherits AS i
         WHERE i.inhparent IN ('{namespace}.events'::regclass, '{namespace}.commits'::regclass)
           AND NOT has_table_privilege('{namespace}_query', i.inhrelid, 'SELECT')
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO {namespace}_appender, {namespace}_feed, {namespace}_query', _table);
    END LOOP;
    FOR _table IN
        SELECT c.oid FROM pg_class AS c
         WHERE c.relnamespace = '{namespace}'::regnamespace AND c.relkind IN ('r', 'p')
           AND c.relname ~ '^idempotency_keys($|_p)' AND c.relowner <> '{namespace}_keeper'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {namespace}_keeper', _table);
    END LOOP;
    RETURN _made;
END
$function$;
