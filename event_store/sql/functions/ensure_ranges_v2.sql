-- ensure_ranges_v2: make the tables for a partition's next events before they are needed.
--
--   _partition  the partition; it must be here
--
-- Returns  how many tables were made
-- Raises   ES001 if the partition is not here
-- Caller   event_store/postgres.py, PostgresLog.keep_house
--
-- There is always the range that the head is in and the one after it. A table is made on its own and then attached,
-- which does not lock out appends (CREATE TABLE … PARTITION OF would). A stream's versions are unique by an index of
-- each range, because one over all ranges would have to hold the position too.
--
-- SECURITY DEFINER: who appends must have these tables made and may own none of them. It is told a number and nothing
-- else, and makes what must be there anyway. It differs from v1 in this, and in that it guards what it makes.

CREATE FUNCTION {namespace}.ensure_ranges_v2(_partition integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _size  bigint;
    _head  bigint;
    _table text;
    _made  integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{namespace}/ranges', _partition));
    SELECT p.range_events INTO _size FROM {namespace}.partitions AS p WHERE p.partition = _partition;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = 'the partition is not here';
    END IF;
    SELECT coalesce(max(c.last_position), 0) INTO _head FROM {namespace}.commits AS c WHERE c.partition = _partition;
    FOR _range IN _head / _size .. _head / _size + 1 LOOP
        _table := format('events_p%s_r%s', _partition, _range);
        CONTINUE WHEN to_regclass(format('{namespace}.%I', _table)) IS NOT NULL;
        EXECUTE format('CREATE TABLE {namespace}.%I (LIKE {namespace}.events INCLUDING ALL)', _table);
        EXECUTE format('CREATE UNIQUE INDEX %I ON {namespace}.%I (stream, tenant, version)', _table || '_stream', _table);
        PERFORM {namespace}.guard_v1(format('{namespace}.%I', _table)::regclass);
        PERFORM {namespace}.guard_tenants_v1(format('{namespace}.%I', _table)::regclass);
        EXECUTE format('ALTER TABLE {namespace}.%I ATTACH PARTITION {namespace}.%I FOR VALUES FROM (%s) TO (%s)',
            'events_p' || _partition, _table, _range * _size, (_range + 1) * _size);
        _made := _made + 1;
    END LOOP;
    RETURN _made;
END
$function$;

REVOKE EXECUTE ON FUNCTION {namespace}.ensure_ranges_v2 FROM PUBLIC;
