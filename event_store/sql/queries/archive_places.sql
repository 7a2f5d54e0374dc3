-- archive_places: where the events of streams are in one range, by name and version; a page of them.
--
--   $1 stream, $2 tenant, $3 version after which the page begins   $4 how many at most
--
-- Caller   event_store/archive.py
--
-- `events` is the range's own table; its index by stream gives the order.

SELECT e.stream, e.tenant, e.version, e.position
  FROM {namespace}.{events} AS e
 WHERE (e.stream, e.tenant, e.version) > ($1, $2, $3)
 ORDER BY e.stream, e.tenant, e.version
 LIMIT $4
