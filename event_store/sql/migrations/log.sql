-- log: the tables of the log. Every one of them is partitioned by the log's partition, so that a partition can stand
-- on any server, be moved, or be archived without touching another. Layout is an interface: other parts read it.
--
--   partitions         one row per partition that is here. The row is the partition's lock (FOR UPDATE in
--                      append_batch_v1 and settle_v1) and is never updated, so it cannot bloat.
--   commits            one row per batch that appended something: the chain of hashes. The last one is the head.
--                      marks: the first four bytes of each event's leaf hash, so that a check can name the event.
--   events             the log. Ranges of positions are made ahead of the head by ensure_ranges_v1, never in an append.
--   streams            each stream's version and its first and last position: the authority for what appends
--                      expect, and what reads are pruned by. Never archived.
--   idempotency_keys   what was accepted under which key, as much as rebuilds the first answer.
--   tenant_partitions  tenants that do not live where the hash of their name says.
--   void_calls         calls of append_batch_v1 that were given up by their caller and may no longer take effect.
--
-- Indexes begin with the column that tells most apart: most of an append's time is spent comparing their keys.

CREATE TABLE {namespace}.partitions (
    partition    integer NOT NULL,
    range_events bigint  NOT NULL DEFAULT 16777216,
    CONSTRAINT partitions_key PRIMARY KEY (partition),
    CONSTRAINT partitions_range_positive CHECK (range_events > 0)
);

CREATE TABLE {namespace}.commits (
    partition      integer     NOT NULL,
    first_position bigint      NOT NULL,
    last_position  bigint      NOT NULL,
    recorded_at    timestamptz NOT NULL,
    octets         bigint      NOT NULL,
    hash           bytea       NOT NULL,
    previous_hash  bytea       NOT NULL,
    marks          bytea       NOT NULL,
    CONSTRAINT commits_key PRIMARY KEY (partition, last_position),
    CONSTRAINT commits_hold_events CHECK (first_position BETWEEN 1 AND last_position),
    CONSTRAINT commits_hashes_whole CHECK (octet_length(hash) = 32 AND octet_length(previous_hash) = 32)
) PARTITION BY LIST (partition);

CREATE TABLE {namespace}.events (
    position       bigint      NOT NULL,
    version        bigint      NOT NULL,
    recorded_at    timestamptz NOT NULL,
    id             uuid        NOT NULL,
    partition      integer     NOT NULL,
    schema_version integer     NOT NULL,
    tenant         text        COLLATE "C" NOT NULL,
    stream         text        COLLATE "C" NOT NULL,
    type           text        COLLATE "C" NOT NULL,
    data           bytea       NOT NULL,
    metadata       bytea       NOT NULL,
    CONSTRAINT events_key PRIMARY KEY (partition, position)
) PARTITION BY LIST (partition);

CREATE TABLE {namespace}.streams (
    partition      integer NOT NULL,
    version        bigint  NOT NULL,
    first_position bigint  NOT NULL,
    last_position  bigint  NOT NULL,
    tenant         text    COLLATE "C" NOT NULL,
    stream         text    COLLATE "C" NOT NULL,
    CONSTRAINT streams_key PRIMARY KEY (stream, tenant, partition)
) PARTITION BY LIST (partition);

CREATE TABLE {namespace}.idempotency_keys (
    partition   integer     NOT NULL,
    events      integer     NOT NULL,
    position    bigint      NOT NULL,
    version     bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    fingerprint bytea       NOT NULL,
    tenant      text        COLLATE "C" NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    key         text        COLLATE "C" NOT NULL,
    stream      text        COLLATE "C" NOT NULL,
    CONSTRAINT idempotency_keys_key PRIMARY KEY (key, subject, tenant, partition)
) PARTITION BY LIST (partition);

-- Old keys are found by their time; they stand in the order of it, so the smallest of indexes will do.
CREATE INDEX idempotency_keys_by_time ON {namespace}.idempotency_keys USING brin (recorded_at);

CREATE TABLE {namespace}.tenant_partitions (
    tenant    text    COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    CONSTRAINT tenant_partitions_key PRIMARY KEY (tenant)
);

CREATE TABLE {namespace}.void_calls (
    partition integer     NOT NULL,
    call      bigint      NOT NULL,
    voided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT void_calls_key PRIMARY KEY (partition, call)
);
