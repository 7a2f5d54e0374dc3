-- move_streams_from: the next of a tenant's streams in a partition, by name, and their versions.
--
--   $1 partition   $2 tenant   $3 how many at most   $4 the name after which they begin
--
-- Caller   event_store/moving.py, Mover._copy

SELECT s.stream, s.version FROM {namespace}.streams AS s
 WHERE s.partition = $1 AND s.tenant = $2 AND s.stream > $4
 ORDER BY s.stream LIMIT $3
