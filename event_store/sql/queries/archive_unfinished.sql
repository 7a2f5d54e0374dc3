-- archive_unfinished: ranges of a partition whose copy is right and whose table is still there, in order.
--
--   $1 partition
--
-- Caller   event_store/archive.py

SELECT r.range, r.first_position, r.last_position, r.manifest, r.manifest_sha256
  FROM {namespace}.archived_ranges AS r
 WHERE r.partition = $1 AND r.dropped_at IS NULL
 ORDER BY r.range
