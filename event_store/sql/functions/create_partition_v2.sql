-- create_partition_v2: make the tables of one partition on this server, unless they are here already.
--
--   _partition     the partition
--   _range_events  how many positions go into one table of events
--
-- Returns  whether there was anything to do
-- Caller   event_store/migrate.py, migrate

CREATE FUNCTION {namespace}.create_partition_v2(_partition integer, _range_events bigint DEFAULT 16777216)
RETURNS boolean
LANGUAGE plpgsql
AS $function$
DECLARE
    _name text;
BEGIN
    INSERT INTO {namespace}.partitions (partition, range_events) VALUES (_partition, _range_events)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE {namespace}.%I PARTITION OF {namespace}.events FOR VALUES IN (%s)'
        ' PARTITION BY RANGE (position)', 'events_p' || _partition, _partition);
    FOREACH _name IN ARRAY ARRAY['commits', 'streams'] LOOP
        EXECUTE format('CREATE TABLE {namespace}.%I PARTITION OF {namespace}.%I FOR VALUES IN (%s)%s',
            _name || '_p' || _partition, _name, _partition,
            -- Room on each page for the next version of its rows, which then need no new index entries.
            CASE _name WHEN 'streams' THEN ' WITH (fillfactor = 75)' ELSE '' END);
    END LOOP;
    PERFORM {namespace}.guard_v1(format('{namespace}.%I', 'events_p' || _partition)::regclass);
    PERFORM {namespace}.guard_v1(format('{namespace}.%I', 'commits_p' || _partition)::regclass);
    PERFORM {namespace}.ensure_ranges_v1(_partition);
    PERFORM {namespace}.add_to_partition_v1(_partition);
    RETURN true;
END
$function$;
