-- read_filtered: call read_filtered_v1; its header says what the arguments are.
--
-- Returns  the events in the order of RecordedEvent's fields, and with each the commit that the run ends with and the
--          last archived position (null: none; what lies up to there was not looked at); one row without an event
--          when none matches, none at all when nothing is new
-- Raises   ES002, from read_filtered_v1
-- Caller   event_store/postgres_reading.py, PostgresReading.read_filtered

SELECT $1::integer, m.position, m.tenant, m.stream, m.version, m.id, m.type, m.schema_version, m.data, m.metadata,
       m.recorded_at, m.end_position, m.end_hash,
       (SELECT a.last_position FROM {namespace}.archive_ends AS a WHERE a.partition = $1)
  FROM {namespace}.read_filtered_v1($1, $2, $3, $4, $5, $6, $7, $8) AS m
