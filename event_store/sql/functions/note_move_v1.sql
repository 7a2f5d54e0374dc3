-- note_move_v1: tell a server of a move, or that it has ended, and have the tenant's place there follow.
--
--   _tenant, _number            the move
--   _from_partition, _left_…    the partition that was left, and the fence's position, commit and time
--   _to_partition, _arrived_…   where it goes, and when and where it arrived; null: it is on its way
--
-- Returns  whether anything was news here
-- Caller   event_store/moving.py
--
-- What is known already is never changed but for an arrival that is added, or was lost and took place again. Of several moves the last one says where the
-- tenant lives, in whatever order a server is told of them. No append is under way here meanwhile.

CREATE FUNCTION {namespace}.note_move_v1(
    _tenant text, _number integer, _from_partition integer, _left_position bigint, _left_hash bytea,
    _left_at timestamptz, _to_partition integer, _arrived_position bigint, _arrived_at timestamptz
) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '10s'
AS $function$
DECLARE
    _is_news boolean;
BEGIN
    PERFORM set_config('{namespace}.tenants', ARRAY[_tenant]::text, true);
    PERFORM FROM {namespace}.partitions AS p ORDER BY p.partition FOR UPDATE;
    INSERT INTO {namespace}.tenant_moves AS m (tenant, number, from_partition, left_position, left_hash, left_at,
                                               to_partition, arrived_position, arrived_at)
    VALUES (_tenant, _number, _from_partition, _left_position, _left_hash, _left_at, _to_partition, _arrived_position,
            _arrived_at)
    ON CONFLICT ON CONSTRAINT tenant_moves_key DO UPDATE
       SET arrived_position = excluded.arrived_position, arrived_at = excluded.arrived_at
     WHERE excluded.arrived_position IS NOT NULL AND m.arrived_position IS DISTINCT FROM excluded.arrived_position;
    _is_news := FOUND;
    INSERT INTO {namespace}.tenant_partitions AS t (tenant, partition)
    SELECT m.tenant, CASE WHEN m.arrived_position IS NULL THEN -1 - m.from_partition ELSE m.to_partition END
      FROM {namespace}.tenant_moves AS m WHERE m.tenant = _tenant ORDER BY m.number DESC LIMIT 1
    ON CONFLICT (tenant) DO UPDATE SET partition = excluded.partition WHERE t.partition <> excluded.partition;
    _is_news := _is_news OR FOUND;
    IF _is_news THEN
        UPDATE {namespace}.move_changes SET changes = changes + 1;
    END IF;
    RETURN _is_news;
END
$function$;
