-- archived_ranges: what of a partition is read from the archive, in order.
--
--   $1 partition
--
-- Caller   event_store/postgres_reading.py, for event_store/archive_reading.py

SELECT r.range, r.first_position, r.last_position, r.manifest, r.manifest_sha256
  FROM {namespace}.archived_ranges AS r
 WHERE r.partition = $1
 ORDER BY r.range
