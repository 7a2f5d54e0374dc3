-- archive_publish: have a range be read from the archive from now on.
--
--   $1 partition, $2 range, $3 first and $4 last position, $5 bytes of its events, $6 bytes in the archive
--   $7 its manifest's name and $8 hash   $9 who does it, and $10 why
--
-- Caller   event_store/archive.py

WITH recorded AS (
    INSERT INTO {namespace}.archived_ranges (partition, range, first_position, last_position, octets, stored_octets,
                                             manifest, manifest_sha256, actor, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING partition, last_position
)
INSERT INTO {namespace}.archive_ends AS a (partition, last_position)
SELECT r.partition, r.last_position FROM recorded AS r
ON CONFLICT ON CONSTRAINT archive_ends_key DO UPDATE SET last_position = excluded.last_position
