-- archive_done: note that a range's table is detached ($3), or dropped ($4).
--
--   $1 partition   $2 range
--
-- Caller   event_store/archive.py

UPDATE {namespace}.archived_ranges
   SET detached_at = CASE WHEN $3::boolean THEN coalesce(detached_at, clock_timestamp()) ELSE detached_at END,
       dropped_at = CASE WHEN $4::boolean THEN coalesce(dropped_at, clock_timestamp()) ELSE dropped_at END
 WHERE partition = $1 AND range = $2
