-- save_states_v1: keep states of streams, each in place of an older one of the same shape.
--
--   _partition          the partition
--   _tenants, _streams  one per state: its stream,
--   _shapes, _deciders  its shape and its decider's version,
--   _versions           the stream's version,
--   _positions,         the commit that it rests on,
--   _hashes, _states    and itself
--
-- Returns  how many were kept: not those of a lost tail, of streams that were forgotten, or older than what there is
-- Caller   event_store/sql/queries/save_states.sql
--
-- The lock is shared by all that save and keeps out forget_states_v1: what is forgotten is not saved by a call that had
-- begun before. No append waits for it. Callers sort by stream, so that two of them do not wait for each other.

CREATE OR REPLACE FUNCTION {namespace}.save_states_v1(
    _partition integer, _tenants text[], _streams text[], _shapes bytea[], _deciders integer[], _versions bigint[],
    _positions bigint[], _hashes bytea[], _states bytea[]
) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '3s'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $function$
DECLARE
    _kept integer;
BEGIN
    PERFORM set_config(
        '{namespace}.tenants', (SELECT array_agg(DISTINCT t.tenant)::text FROM unnest(_tenants) AS t (tenant)), true);
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('{namespace}/snapshots', _partition));
    INSERT INTO {namespace}.snapshots AS s (partition, decider_version, version, commit_position, tenant, stream, shape,
                                            commit_hash, state)
    SELECT _partition, u.decider, u.version, u.position, u.tenant, u.stream, u.shape, u.hash, u.state
      FROM unnest(_tenants, _streams, _shapes, _deciders, _versions, _positions, _hashes, _states) WITH ORDINALITY
           AS u (tenant, stream, shape, decider, version, position, hash, state, number)
     WHERE (SELECT c.hash FROM {namespace}.commits AS c
             WHERE c.partition = _partition AND c.last_position = u.position) = u.hash
       AND (SELECT true FROM {namespace}.forgotten_snapshots AS f
             WHERE f.partition = _partition AND f.tenant = u.tenant AND f.stream = u.stream) IS NULL
     ORDER BY u.number
    ON CONFLICT ON CONSTRAINT snapshots_key DO UPDATE
       SET decider_version = excluded.decider_version, version = excluded.version, state = excluded.state,
           commit_position = excluded.commit_position, commit_hash = excluded.commit_hash, written_at = clock_timestamp()
     WHERE s.version < excluded.version
        OR (SELECT c.hash FROM {namespace}.commits AS c
             WHERE c.partition = _partition AND c.last_position = s.commit_position) IS DISTINCT FROM s.commit_hash;
    GET DIAGNOSTICS _kept = ROW_COUNT;
    RETURN _kept;
END
$function$;
