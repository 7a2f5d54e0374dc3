-- ensure_key_days_v2: make the tables for a partition's idempotency keys before they are needed: today's and tomorrow's.
--
--   _partition  the partition
--   _from       the day to begin with, if that is earlier than today; null: today
--
-- Returns  how many tables were made
-- Caller   event_store/sql/queries/ensure_ranges.sql, as {namespace}_keeper
--
-- Days are those of the database's time in UTC, or of the last commit's where that is later: commit times never run
-- backwards. A table is attached, which does not lock out appends.
-- It differs from v1 in that it guards what it makes.

CREATE FUNCTION {namespace}.ensure_key_days_v2(_partition integer, _from timestamptz DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql
SET timezone = 'UTC'
AS $function$
DECLARE
    _today date;
    _day   date;
    _table text;
    _made  integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{namespace}/key-days', _partition));
    SELECT greatest(clock_timestamp(), max(c.recorded_at)) INTO _today
      FROM {namespace}.commits AS c WHERE c.partition = _partition;
    _day := least(_today, _from::date);
    WHILE _day <= _today + 1 LOOP
        _table := format('idempotency_keys_p%s_d%s', _partition, to_char(_day, 'YYYYMMDD'));
        IF to_regclass(format('{namespace}.%I', _table)) IS NULL THEN
            EXECUTE format('CREATE TABLE {namespace}.%I (LIKE {namespace}.idempotency_keys INCLUDING ALL)', _table);
            PERFORM {namespace}.guard_tenants_v1(format('{namespace}.%I', _table)::regclass);
            EXECUTE format('ALTER TABLE {namespace}.%I ATTACH PARTITION {namespace}.%I FOR VALUES FROM (%L) TO (%L)',
                'idempotency_keys_p' || _partition, _table, _day::timestamptz, (_day + 1)::timestamptz);
            _made := _made + 1;
        END IF;
        _day := _day + 1;
    END LOOP;
    RETURN _made;
END
$function$;
