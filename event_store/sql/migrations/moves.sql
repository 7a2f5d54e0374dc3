-- moves: where tenants have lived before, and what went along when they moved (docs/decisions/0020).
--
--   tenant_moves   one row per move, on each server that was told of it: first the one that is left, in the transaction of
--                  the fence; then the tenant's home; the one that it comes to, in the transaction of its arrival; and all
--                  others. arrived_position is null until it has arrived. Rows are only added to.
--   moved_keys     what the tenant's keys were bound to in partitions that it has left, as whole first answers, by the
--                  partition that they were taken to. written_in is where the events are.
--   move_changes   how often anything was noted in tenant_moves here: a process whose number is another one has to look
--                  again where tenants live. One row.
--
-- While a tenant is on its way, tenant_partitions says -1 - p, p being the partition that it came from: no partition
-- takes its appends (append_batch_v2, ES008).

CREATE TABLE {namespace}.tenant_moves (
    tenant           text        COLLATE "C" NOT NULL,
    number           integer     NOT NULL,
    from_partition   integer     NOT NULL,
    left_position    bigint      NOT NULL,
    left_hash        bytea       NOT NULL,
    left_at          timestamptz NOT NULL,
    to_partition     integer     NOT NULL,
    arrived_position bigint,
    arrived_at       timestamptz,
    CONSTRAINT tenant_moves_key PRIMARY KEY (tenant, number),
    CONSTRAINT tenant_moves_lives_once_from UNIQUE (tenant, from_partition),
    CONSTRAINT tenant_moves_lives_once_to UNIQUE (tenant, to_partition),
    CONSTRAINT tenant_moves_elsewhere CHECK (from_partition <> to_partition),
    CONSTRAINT tenant_moves_numbered CHECK (number >= 1),
    CONSTRAINT tenant_moves_arrived_whole CHECK ((arrived_position IS NULL) = (arrived_at IS NULL))
);

-- Pages are cut before arrivals: one look a page.
CREATE INDEX tenant_moves_by_arrival ON {namespace}.tenant_moves (to_partition, arrived_position);

CREATE TABLE {namespace}.moved_keys (
    partition       integer NOT NULL,
    written_in      integer NOT NULL,
    events          integer NOT NULL,
    position        bigint  NOT NULL,
    version         bigint  NOT NULL,
    commit_position bigint  NOT NULL,
    commit_hash     bytea   NOT NULL,
    fingerprint     bytea   NOT NULL,
    tenant          text    COLLATE "C" NOT NULL,
    subject         text    COLLATE "C" NOT NULL,
    key             text    COLLATE "C" NOT NULL,
    stream          text    COLLATE "C" NOT NULL,
    CONSTRAINT moved_keys_key PRIMARY KEY (key, subject, tenant, partition)
);

CREATE TABLE {namespace}.move_changes (
    changes bigint NOT NULL
);
INSERT INTO {namespace}.move_changes (changes) VALUES (0);

SELECT {namespace}.guard_tenants_v1('{namespace}.tenant_moves'), {namespace}.guard_tenants_v1('{namespace}.moved_keys');

GRANT SELECT ON {namespace}.tenant_moves, {namespace}.move_changes
   TO {namespace}_appender, {namespace}_feed, {namespace}_query;
-- Workflows append too, and read as who follows the log.
GRANT SELECT ON {namespace}.moved_keys TO {namespace}_appender, {namespace}_feed;
