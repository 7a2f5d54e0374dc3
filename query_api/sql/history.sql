-- history: a tenant's events in the order of their positions, as auditors see them; the scan is bounded.
--
--   :partition, :tenant   whose
--   :after                the position after which it begins
--   :scan_max             how many positions are looked at, at most, where no stream is named
--   :from_, :to           half-open range of the time of recording, or null
--   :stream, :actor, :type_   what to look for, or null
--   :page_rows            how many events at most
--
-- Returns  rows of events; in each: `head` and `head_hash` of the partition, `begins` the position after which was
--          looked, `scanned` the last position looked at, `ends` the last position that there is to look at, and
--          `archived_to`: what lies up to there is in the archive and not among the events (null: nothing is). There is always one row; `position` is null in it
--          where nothing was found.
-- Caller   query_api/history.py
--
-- Commit times never run backwards, so a time is turned into a position by halving; no index on times is needed.

WITH RECURSIVE head AS (
    SELECT c.last_position AS position, c.hash
    FROM {namespace}.commits AS c WHERE c.partition = :partition::integer
    ORDER BY c.last_position DESC LIMIT 1
),
halving (which, bound, low, high) AS (
    SELECT bounds.which, bounds.bound, 1::bigint, head.position + 1
    FROM head CROSS JOIN (VALUES ('from', :from_::timestamptz), ('to', :to::timestamptz)) AS bounds (which, bound)
    WHERE bounds.bound IS NOT NULL
    UNION ALL
    SELECT h.which, h.bound,
        CASE WHEN found.recorded_at < h.bound THEN found.last_position + 1 ELSE h.low END,
        CASE WHEN found.recorded_at < h.bound THEN h.high ELSE least(found.first_position, h.high) END
    FROM halving AS h
    CROSS JOIN LATERAL (
        SELECT c.first_position, c.last_position, c.recorded_at
        FROM {namespace}.commits AS c
        WHERE c.partition = :partition::integer AND c.last_position >= (h.low + h.high) / 2
        ORDER BY c.last_position LIMIT 1
    ) AS found
    WHERE h.low < h.high
),
bounds AS (
    SELECT greatest(:after::bigint, coalesce((SELECT max(low) FROM halving WHERE which = 'from'), 1) - 1) AS after,
        least(head.position, coalesce((SELECT max(low) FROM halving WHERE which = 'to') - 1, head.position)) AS ends
    FROM head
),
stretch AS (
    SELECT greatest(bounds.after, coalesce(s.first_position - 1, 0)) AS after,
        CASE WHEN :stream::text IS NULL THEN bounds.ends ELSE least(bounds.ends, coalesce(s.last_position, 0)) END AS ends,
        CASE WHEN :stream::text IS NULL THEN :scan_max::bigint ELSE bounds.ends END AS scan_max
    FROM bounds
    LEFT JOIN {namespace}.streams AS s
        ON s.partition = :partition::integer AND s.tenant = :tenant::text AND s.stream = :stream::text
),
found AS (
    SELECT e.*
    FROM stretch, {namespace}.events AS e
    WHERE e.partition = :partition::integer AND e.tenant = :tenant::text
        AND e.position > stretch.after AND e.position <= least(stretch.ends, stretch.after + stretch.scan_max)
        AND (:stream::text IS NULL OR e.stream = :stream::text)
        AND (:type_::text IS NULL OR e.type = :type_::text)
        AND (:actor::text IS NULL OR convert_from(e.metadata, 'UTF8')::json ->> 'actor' = :actor::text)
    ORDER BY e.position
    LIMIT :page_rows::integer
)
SELECT head.position AS head, head.hash AS head_hash, stretch.after AS begins, stretch.ends,
    (SELECT a.last_position FROM {namespace}.archive_ends AS a WHERE a.partition = :partition::integer) AS archived_to,
    least(stretch.ends, stretch.after + stretch.scan_max) AS scanned,
    found.id::text AS event_id, found.type, found.schema_version, found.stream, found.version, found.position,
    found.recorded_at, found.data, found.metadata, commit.hash
FROM head
CROSS JOIN stretch
LEFT JOIN found ON true
LEFT JOIN LATERAL (
    SELECT c.hash FROM {namespace}.commits AS c
    WHERE c.partition = :partition::integer AND c.last_position >= found.position
    ORDER BY c.last_position LIMIT 1
) AS commit ON found.position IS NOT NULL
ORDER BY found.position
