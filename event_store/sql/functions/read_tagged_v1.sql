-- read_tagged_v1: the events of one partition that carry each of some tags, as of one moment.
--
--   _partition         the partition
--   _tenants, _tags,   one per tag, with the position after which its events begin
--   _after
--
-- Returns  the number of the tag, from 1, and its events, in no particular order
-- Caller   event_store/sql/queries/read_tagged.sql
--
-- STABLE, so that it sees what the statement that calls it sees; a function, so that its plan goes by the indexes
-- whatever the tables held when it was made (see read_tails_v1).

CREATE OR REPLACE FUNCTION {namespace}.read_tagged_v1(_partition integer, _tenants text[], _tags text[], _after bigint[])
RETURNS TABLE (
    number bigint, "position" bigint, tenant text, stream text, version bigint, id text, type text,
    schema_version integer, data bytea, metadata bytea, recorded_at timestamptz
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
    PERFORM set_config(
        '{namespace}.tenants', (SELECT array_agg(DISTINCT t.tenant)::text FROM unnest(_tenants) AS t (tenant)), true);
    RETURN QUERY
    SELECT u.number, e.position, e.tenant, e.stream, e.version, e.id::text, e.type, e.schema_version, e.data,
           e.metadata, e.recorded_at
      FROM unnest(_tenants, _tags, _after) WITH ORDINALITY AS u (tenant, tag, after, number)
     CROSS JOIN LATERAL (
           SELECT t.position FROM {namespace}.tags AS t
            WHERE t.partition = _partition AND t.tenant = u.tenant AND t.tag = u.tag AND t.position > u.after
           OFFSET 0) AS t
     CROSS JOIN LATERAL (
           SELECT n.* FROM {namespace}.events AS n
            WHERE n.partition = _partition AND n.position = t.position
           OFFSET 0) AS e;
END
$function$;
