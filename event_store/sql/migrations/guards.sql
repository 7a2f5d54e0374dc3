-- guards: what each role may do, table by table, and row security by tenant. The roles are made before (make_roles.sql).
--
-- A table that stands in no line here is its owner's alone. Nobody who serves may update, delete or truncate events
-- or commits; that a superuser cannot do so without insisting is the triggers' work (refuse_change_v1).

-- No append is under way from here on: one that had looked at a table could not lock the next while this waits for it.
SELECT FROM {namespace}.partitions ORDER BY partition FOR UPDATE;
GRANT USAGE ON SCHEMA {namespace}
   TO {namespace}_appender, {namespace}_feed, {namespace}_query, {namespace}_builder, {namespace}_keeper;
GRANT CREATE ON SCHEMA {namespace} TO {namespace}_keeper;
SELECT {namespace}.guard_every_table_v1();

-- Locking a partition's row takes the right to update something of it, which the trigger refuses to use.
GRANT SELECT, UPDATE (partition) ON {namespace}.partitions TO {namespace}_appender;
CREATE TRIGGER refuse_change BEFORE UPDATE OF partition ON {namespace}.partitions
FOR EACH STATEMENT EXECUTE FUNCTION {namespace}.refuse_change_v1();
GRANT SELECT, INSERT ON {namespace}.events, {namespace}.commits, {namespace}.idempotency_keys, {namespace}.void_calls
   TO {namespace}_appender;
GRANT SELECT, INSERT, UPDATE (version, last_position) ON {namespace}.streams TO {namespace}_appender;
GRANT SELECT ON {namespace}.tenant_partitions TO {namespace}_appender;
GRANT SELECT, INSERT ON {namespace}.tags TO {namespace}_appender;

-- Which log this is, and which of its histories. A new epoch is opened by the owner, or by who follows the log and
-- finds that the cache holds a history that the log does not have; none is ever taken back.
GRANT SELECT ON {namespace}.log_identity, {namespace}.epochs
   TO {namespace}_appender, {namespace}_feed, {namespace}_query;
GRANT INSERT ON {namespace}.epochs TO {namespace}_feed;

-- Saved states: whoever folds a stream saves it; only who follows the whole log deletes them.
GRANT SELECT, INSERT, UPDATE ON {namespace}.snapshots TO {namespace}_appender;
GRANT SELECT ON {namespace}.forgotten_snapshots TO {namespace}_appender;
GRANT SELECT, INSERT, UPDATE, DELETE ON {namespace}.snapshots, {namespace}.forgotten_snapshots TO {namespace}_feed;

-- Notes of where types and tenants occur are of all tenants' events, which housekeeping is not to read for anything
-- else; a note that missed some would hide them. So it is noted with the owner's eyes.
GRANT SELECT ON {namespace}.occurrences, {namespace}.occurrences_filled TO {namespace}_feed;
ALTER FUNCTION {namespace}.fill_occurrences_v1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION {namespace}.fill_occurrences_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {namespace}.fill_occurrences_v1 TO {namespace}_keeper;

GRANT SELECT ON {namespace}.commits TO {namespace}_keeper;
GRANT SELECT, DELETE ON {namespace}.void_calls TO {namespace}_keeper;
GRANT EXECUTE ON FUNCTION {namespace}.ensure_ranges_v2 TO {namespace}_keeper;

GRANT SELECT ON {namespace}.partitions, {namespace}.events, {namespace}.commits, {namespace}.streams, {namespace}.tags,
                {namespace}.tenant_partitions
   TO {namespace}_feed, {namespace}_query;

GRANT SELECT, INSERT, UPDATE, DELETE
   ON {namespace}.lease_members, {namespace}.leases, {namespace}.checkpoints, {namespace}.projections,
      {namespace}.generations, {namespace}.applied_by_tenant, {namespace}.parked_events, {namespace}.skipped_events,
      {namespace}.scheduled_commands, {namespace}.workflow_answers
   TO {namespace}_feed;
GRANT SELECT, INSERT ON {namespace}.operator_acts TO {namespace}_feed;

GRANT SELECT ON {namespace}.checkpoints, {namespace}.projections, {namespace}.generations,
                {namespace}.applied_by_tenant, {namespace}.parked_events
   TO {namespace}_query;
GRANT EXECUTE ON FUNCTION {namespace}.parked_counts_v1 TO {namespace}_feed, {namespace}_query;

-- Generations that are there already become the builder's, and are guarded as it would guard them.
DO $body$
DECLARE
    _schema   text;
    _relation regclass;
BEGIN
    FOR _schema IN
        SELECT g.schema FROM {namespace}.generations AS g
         WHERE g.state <> 'dropped' AND to_regnamespace(quote_ident(g.schema)) IS NOT NULL
    LOOP
        PERFORM {namespace}.guard_generation_v1(_schema);
        EXECUTE format('ALTER SCHEMA %I OWNER TO {namespace}_builder', _schema);
        FOR _relation IN
            SELECT c.oid FROM pg_catalog.pg_class AS c
             WHERE c.relnamespace = quote_ident(_schema)::regnamespace AND c.relkind IN ('r', 'p', 'v')
             ORDER BY c.relkind, c.oid
        LOOP
            EXECUTE format('ALTER TABLE %s OWNER TO {namespace}_builder', _relation);
        END LOOP;
    END LOOP;
END
$body$;
