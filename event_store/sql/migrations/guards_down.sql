-- guards_down: take back what guards.sql gave. The roles stay: other databases of the server may use them.

DO $body$
DECLARE
    _table  regclass;
    _schema text;
BEGIN
    FOR _table IN
        SELECT c.oid FROM pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity
           AND (n.nspname = '{namespace}' OR n.nspname IN (SELECT g.schema FROM {namespace}.generations AS g))
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS named_tenants ON %s', _table);
        EXECUTE format('DROP POLICY IF EXISTS whole_partitions ON %s', _table);
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', _table);
    END LOOP;
END
$body$;

DO $body$
DECLARE
    _table regclass;
BEGIN
    FOR _table IN
        SELECT c.oid FROM pg_catalog.pg_class AS c
         WHERE c.relnamespace = '{namespace}'::regnamespace AND c.relowner = '{namespace}_keeper'::regrole
           AND c.relkind IN ('r', 'p')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO CURRENT_USER', _table);
    END LOOP;
END
$body$;

ALTER FUNCTION {namespace}.fill_occurrences_v1 SECURITY INVOKER RESET search_path;
GRANT EXECUTE ON FUNCTION {namespace}.fill_occurrences_v1 TO PUBLIC;
DROP TRIGGER refuse_change ON {namespace}.partitions;
DROP FUNCTION {namespace}.parked_counts_v1;
DROP FUNCTION {namespace}.ensure_key_days_v2;
DROP FUNCTION {namespace}.ensure_ranges_v2;
DROP FUNCTION {namespace}.guard_generation_v1;
DROP FUNCTION {namespace}.guard_every_table_v1;
DROP FUNCTION {namespace}.guard_tenants_v1;
REVOKE ALL ON ALL TABLES IN SCHEMA {namespace}
  FROM {namespace}_appender, {namespace}_feed, {namespace}_query, {namespace}_builder, {namespace}_keeper;
REVOKE ALL ON SCHEMA {namespace} FROM {namespace}_appender, {namespace}_feed, {namespace}_query, {namespace}_builder, {namespace}_keeper;
