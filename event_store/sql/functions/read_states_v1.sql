-- read_states_v1: what brings the states of many streams of one partition up to date, as of one moment.
--
--   _partition         the partition
--   _tenants,          one per stream: the stream, the version that is known of it, and the shape of a saved state that
--   _streams, _after,  could be read; null: none
--   _shapes
--
-- Returns  for each stream the saved state, if one is newer than what is known and rests on a commit that the log has (its
--          id is null, its data the state, its position that of the commit); and the events after it, in no particular order
-- Caller   event_store/sql/queries/read_states.sql
--
-- STABLE, so that it sees what the statement that calls it sees; for the settings see read_tails_v1.

CREATE OR REPLACE FUNCTION {namespace}.read_states_v1(
    _partition integer, _tenants text[], _streams text[], _after bigint[], _shapes bytea[]
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
    SELECT e.position, t.tenant, t.stream, e.version, e.id::text, e.type, e.schema_version, e.data, e.metadata,
           e.recorded_at
      FROM unnest(_tenants, _streams, _after, _shapes) AS t (tenant, stream, after, shape)
      LEFT JOIN LATERAL (
           SELECT n.version, n.commit_position, n.state FROM {namespace}.snapshots AS n
            WHERE n.partition = _partition AND n.tenant = t.tenant AND n.stream = t.stream AND n.shape = t.shape
              AND n.version > t.after
              AND (SELECT c.hash FROM {namespace}.commits AS c
                    WHERE c.partition = _partition AND c.last_position = n.commit_position) = n.commit_hash
           OFFSET 0) AS s ON true
     CROSS JOIN LATERAL (
           SELECT s.commit_position AS position, s.version, NULL::uuid AS id, NULL AS type, NULL::integer AS schema_version,
                  s.state AS data, NULL::bytea AS metadata, NULL::timestamptz AS recorded_at
            WHERE s.version IS NOT NULL
           UNION ALL
           SELECT n.position, n.version, n.id, n.type, n.schema_version, n.data, n.metadata, n.recorded_at
             FROM {namespace}.events AS n
            WHERE n.partition = _partition AND n.tenant = t.tenant AND n.stream = t.stream
              AND n.version > coalesce(s.version, t.after)
           OFFSET 0) AS e;
END
$function$;
