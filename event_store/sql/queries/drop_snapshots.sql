-- drop_snapshots: delete saved states. Streams are folded whole the next time, and saved again.
--
--   $1 tenant and $2 beginning of the streams' names, or null   $3 rows at most
--
-- Returns  how many were deleted; less than $3: no more are there
-- Caller   event_store/snapshots.py, drop_snapshots

WITH chosen AS MATERIALIZED (
    SELECT s.ctid FROM {namespace}.snapshots AS s
     WHERE ($1::text IS NULL OR s.tenant = $1) AND ($2::text IS NULL OR starts_with(s.stream, $2)) LIMIT $3
), gone AS (
    DELETE FROM {namespace}.snapshots AS s USING chosen AS c WHERE s.ctid = c.ctid RETURNING 1
)
SELECT count(*) FROM gone
