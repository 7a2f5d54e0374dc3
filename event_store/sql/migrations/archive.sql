-- archive: which positions of a partition are read from the archive, and what was put there.
--
--   archived_ranges   one row per range of positions whose copy in the archive was read back and found right. Its
--                     table is then detached and dropped; detached_at and dropped_at say how far that is.
--   archive_ends      one row per partition of which anything is archived: everything up to this position is to be
--                     read from the archive. It moves before a table is detached, and a table is detached only once
--                     no statement runs that began before it moved: so whoever misses a table has seen the row.
--
-- Commits and streams are never archived.

CREATE TABLE {namespace}.archived_ranges (
    partition       integer     NOT NULL,
    range           bigint      NOT NULL,
    first_position  bigint      NOT NULL,
    last_position   bigint      NOT NULL,
    octets          bigint      NOT NULL,
    stored_octets   bigint      NOT NULL,
    manifest        text        NOT NULL,
    manifest_sha256 text        NOT NULL,
    actor           text        NOT NULL,
    reason          text,
    verified_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    detached_at     timestamptz,
    dropped_at      timestamptz,
    CONSTRAINT archived_ranges_key PRIMARY KEY (partition, range),
    CONSTRAINT archived_ranges_whole CHECK (first_position BETWEEN 1 AND last_position)
);

CREATE TABLE {namespace}.archive_ends (
    partition     integer NOT NULL,
    last_position bigint  NOT NULL,
    CONSTRAINT archive_ends_key PRIMARY KEY (partition)
);

GRANT SELECT ON {namespace}.archived_ranges, {namespace}.archive_ends
   TO {namespace}_appender, {namespace}_feed, {namespace}_query;
