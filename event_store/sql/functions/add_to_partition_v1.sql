-- add_to_partition_v1: make a partition's tables for tags and keys, as they are since conditions.sql.
--
--   _partition    the partition
--   _oldest_key   when the oldest key was bound that will be put there; null: there is none
--
-- Caller   event_store/sql/migrations/conditions.sql; create_partition_v2

CREATE FUNCTION {namespace}.add_to_partition_v1(_partition integer, _oldest_key timestamptz DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    EXECUTE format('CREATE TABLE {namespace}.%I PARTITION OF {namespace}.tags FOR VALUES IN (%s)',
        'tags_p' || _partition, _partition);
    PERFORM {namespace}.guard_v1(format('{namespace}.%I', 'tags_p' || _partition)::regclass);
    EXECUTE format('CREATE TABLE {namespace}.%I PARTITION OF {namespace}.idempotency_keys FOR VALUES IN (%s)'
        ' PARTITION BY RANGE (recorded_at)', 'idempotency_keys_p' || _partition, _partition);
    PERFORM {namespace}.ensure_key_days_v1(_partition, _oldest_key);
END
$function$;
