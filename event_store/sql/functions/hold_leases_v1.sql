-- hold_leases_v1: renew what a process holds of a group, and give it its fair share of what is free.
--
--   _group       the group of consumers, or `relay/…`
--   _holder      the process, by an identity that is never used again
--   _partitions  the partitions that there are
--   _ttl         how long a lease lasts without being renewed
--   _dead        identities that the caller has proof of: their process is gone from this machine
--
-- Returns  the partitions held now; `surplus` are those over the fair share, to be given back when work has ended
-- Caller   event_store/leases.py, Leases.renew
--
-- One caller at a time in a group (a transaction's advisory lock, so a pooler in between does no harm). A fair
-- share is the number of partitions over the number of live members, rounded up.

CREATE FUNCTION {namespace}.hold_leases_v1(
    _group text, _holder text, _partitions integer[], _ttl interval, _dead text[]
) RETURNS TABLE (partition integer, surplus boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $function$
DECLARE
    _now   timestamptz;
    _share integer;
    _held  integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{namespace}/leases/' || _group, 0));
    _now := clock_timestamp();
    DELETE FROM {namespace}.lease_members AS m
     WHERE m.group_name = _group AND (m.expires_at <= _now OR m.holder = ANY (_dead));
    DELETE FROM {namespace}.leases AS l
     WHERE l.group_name = _group AND (l.expires_at <= _now OR l.holder = ANY (_dead)) AND l.holder <> _holder;
    INSERT INTO {namespace}.lease_members AS m (group_name, holder, expires_at)
    VALUES (_group, _holder, _now + _ttl)
    ON CONFLICT ON CONSTRAINT lease_members_key DO UPDATE SET expires_at = excluded.expires_at;
    SELECT ceil(cardinality(_partitions)::numeric / count(*)) INTO _share
      FROM {namespace}.lease_members AS m WHERE m.group_name = _group;
    UPDATE {namespace}.leases AS l SET expires_at = _now + _ttl
     WHERE l.group_name = _group AND l.holder = _holder;
    GET DIAGNOSTICS _held = ROW_COUNT;
    INSERT INTO {namespace}.leases (group_name, partition, holder, expires_at)
    SELECT _group, free.partition, _holder, _now + _ttl
      FROM unnest(_partitions) WITH ORDINALITY AS free (partition, turn)
     WHERE NOT EXISTS (SELECT FROM {namespace}.leases AS l
                        WHERE l.group_name = _group AND l.partition = free.partition)
     ORDER BY free.turn
     LIMIT greatest(_share - _held, 0);
    RETURN QUERY
    SELECT l.partition, row_number() OVER (ORDER BY l.partition) > _share
      FROM {namespace}.leases AS l
     WHERE l.group_name = _group AND l.holder = _holder
     ORDER BY l.partition;
END
$function$;
