-- read_stream: the next part of one stream, oldest first.
--
--   $1 partition   $2 tenant   $3 stream   $4 version after which it begins
--   $5 position and $6 time up to which it goes, or null   $7 events and $8 bytes at most (one is always in it)
--
-- Returns  the events in the order of RecordedEvent's fields
-- Caller   event_store/postgres.py, PostgresLog.read_stream

SELECT n.partition, n.position, n.tenant, n.stream, n.version, n.id::text, n.type, n.schema_version, n.data, n.metadata,
       n.recorded_at
  FROM (SELECT e.*, sum(octet_length(e.data)::bigint + octet_length(e.metadata)) OVER (ORDER BY e.version) AS octets
          FROM (SELECT e.* FROM {namespace}.{events} AS e
                 WHERE e.partition = $1 AND e.tenant = $2 AND e.stream = $3 AND e.version > $4
                   -- Not to be looked up by position: that index holds everybody's events.
                   AND ($5::bigint IS NULL OR e.position <= $5)
                   AND ($6::timestamptz IS NULL OR e.recorded_at <= $6)
                 ORDER BY e.version LIMIT $7) AS e) AS n
 WHERE n.octets <= $8::bigint OR n.version = $4 + 1
 ORDER BY n.version
