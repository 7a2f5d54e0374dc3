-- guard_tenants_v1: have a table that has a column `tenant` show and take only rows of tenants that are named.
--
--   _table  the table; nothing is done where it is guarded already
--
-- Returns  whether there was anything to do
-- Caller   guard_every_table_v1, ensure_ranges_v2, guard_generation_v1; migrations that make such a table later than
--          r0009_guards may call it too
--
-- The tenants are named by the setting `{namespace}.tenants`, an array that lasts until the end of the transaction
-- (set_config with is_local): no setting, no rows. Row security is forced, so it holds for the table's owner too.
-- Who reads whole partitions ({namespace}_feed: relay, projectors, workflows, and the account that migrates) has a
-- policy that says so.
--
-- The setting is read by a sub-select, which is an InitPlan: once a statement, not once a row. The comparison stands
-- inside of nullif … IS NOT NULL because PostgreSQL takes that to hold for nearly every row and never for something to
-- look up in an index: plans are those that the statement's own conditions give.

CREATE FUNCTION {namespace}.guard_tenants_v1(_table regclass) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $function$
BEGIN
    IF (SELECT c.relrowsecurity AND c.relforcerowsecurity FROM pg_class AS c WHERE c.oid = _table) THEN
        RETURN false;
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', _table);
    EXECUTE format(
        'CREATE POLICY named_tenants ON %s USING (nullif(tenant = ANY ('
        '(SELECT nullif(current_setting(''{namespace}.tenants'', true), '''')::text[])::text[]), false) IS NOT NULL)',
        _table);
    EXECUTE format('CREATE POLICY whole_partitions ON %s TO {namespace}_feed USING (true)', _table);
    RETURN true;
END
$function$;
