-- read_tails_v1: the ends of many streams of one partition, as of one moment.
--
--   _partition         the partition
--   _tenants,          one per tail: its stream, and the version after which it begins
--   _streams, _after
--
-- Returns  the events, in no particular order
-- Caller   event_store/sql/queries/read_tails.sql
--
-- STABLE, so that it sees what the statement that calls it sees. A function, so that its plan is made once and goes by
-- the streams' indexes whatever the tables held when it was made: nothing is asked of a position, by which the other
-- index could seem as good while there are few events, and no join is allowed but one stream after another.

CREATE OR REPLACE FUNCTION {namespace}.read_tails_v1(
    _partition integer, _tenants text[], _streams text[], _after bigint[]
) RETURNS TABLE (
    "position" bigint, tenant text, stream text, version bigint, id text, type text, schema_version integer,
    data bytea, metadata bytea, recorded_at timestamptz
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET jit = off
AS $function$
BEGIN
    -- Mostly they are one tenant's, and then there is nothing to sort.
    PERFORM set_config('{namespace}.tenants', CASE WHEN _tenants[1] = ALL (_tenants) THEN ARRAY[_tenants[1]]::text
        ELSE (SELECT array_agg(DISTINCT t.tenant)::text FROM unnest(_tenants) AS t (tenant)) END, true);
    RETURN QUERY
    SELECT e.position, e.tenant, e.stream, e.version, e.id::text, e.type, e.schema_version, e.data, e.metadata,
           e.recorded_at
      FROM unnest(_tenants, _streams, _after) AS t (tenant, stream, after)
     CROSS JOIN LATERAL (
           SELECT n.* FROM {namespace}.events AS n
            WHERE n.partition = _partition AND n.tenant = t.tenant AND n.stream = t.stream AND n.version > t.after
           OFFSET 0) AS e;
END
$function$;
