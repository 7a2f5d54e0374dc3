-- list_snapshots: which states of streams are saved, by stream.
--
--   $1 tenant and $2 beginning of the streams' names, or null   $3 rows at most
--
-- Caller   event_store/snapshots.py, list_snapshots

SELECT s.partition, s.tenant, s.stream, s.version, s.decider_version, s.commit_position AS position,
       octet_length(s.state) AS bytes, s.written_at,
       -- False: the log has lost the commit that it rests on, and it is not read.
       EXISTS (SELECT FROM {namespace}.commits AS c
                WHERE c.partition = s.partition AND c.last_position = s.commit_position
                  AND c.hash = s.commit_hash) AS usable
  FROM {namespace}.snapshots AS s
 WHERE ($1::text IS NULL OR s.tenant = $1) AND ($2::text IS NULL OR starts_with(s.stream, $2))
 ORDER BY s.partition, s.tenant, s.stream, s.decider_version LIMIT $3
