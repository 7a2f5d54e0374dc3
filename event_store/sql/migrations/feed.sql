-- feed: what consumers of the log keep: leases, checkpoints, generations of projections, parked events.
--
-- These tables stand in the database of the read tables (EVERFOLD_READ_URL, else the log's), because a checkpoint
-- moves in one transaction with what it is the checkpoint of. Other packages read them by SQL; the layout is an
-- interface:
--
--   projections        one row per projection: which generation is live. A read joins it to `checkpoints` in its
--                      own statement, and is run again if the generation has moved meanwhile.
--   checkpoints        how far a consumer is in a partition: (kind, consumer, generation, partition) ->
--                      position + commit_hash. kind is 'projection' (generation as in `projections`),
--                      'workflow' (generation 0) or 'relay' (consumer is the group, generation 0).
--                      waiting_for: why it stands still, in words, null when it does not.
--   applied_by_tenant  the position of the last event of a tenant that a projection's generation has folded.
--   parked_events      events that a consumer could not fold, and every later event of the same key, in order.
--                      A row whose key stands here is older than its checkpoint says.
--
-- The rows of a generation live in the schema {namespace}_{projection, - as _}_{generation}.

-- Who takes part in a group, and until when it is believed to live; times are the database's.
CREATE TABLE {namespace}.lease_members (
    group_name text        NOT NULL,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT lease_members_key PRIMARY KEY (group_name, holder)
);

-- Who works on a partition for a group. A lease shares work; it is not a lock: the conditional checkpoint is.
CREATE TABLE {namespace}.leases (
    group_name text        NOT NULL,
    partition  integer     NOT NULL,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT leases_key PRIMARY KEY (group_name, partition)
);

CREATE TABLE {namespace}.checkpoints (
    kind        text        NOT NULL,
    consumer    text        NOT NULL,
    generation  integer     NOT NULL DEFAULT 0,
    partition   integer     NOT NULL,
    position    bigint      NOT NULL DEFAULT 0,
    commit_hash bytea       NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    recorded_at timestamptz,
    -- Raised by whoever writes rows without moving the position (mending, releasing parked events), so that the
    -- runner notices at its next step that rows it remembers are not the table's any more.
    revision    integer     NOT NULL DEFAULT 0,
    waiting_for text,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT checkpoints_key PRIMARY KEY (kind, consumer, generation, partition),
    CONSTRAINT checkpoints_kind CHECK (kind IN ('projection', 'workflow', 'relay', 'side'))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE {namespace}.projections (
    name       text        NOT NULL,
    generation integer     NOT NULL,
    version    integer     NOT NULL,
    previous   integer,
    paused     boolean     NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT projections_key PRIMARY KEY (name)
);

CREATE TABLE {namespace}.generations (
    projection text        NOT NULL,
    generation integer     NOT NULL,
    version    integer     NOT NULL,
    state      text        NOT NULL,
    schema     text        NOT NULL,
    note       text,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    CONSTRAINT generations_key PRIMARY KEY (projection, generation),
    CONSTRAINT generations_state CHECK (state IN ('building', 'live', 'kept', 'refused', 'dropped'))
);

CREATE TABLE {namespace}.applied_by_tenant (
    tenant     text    NOT NULL,
    projection text    NOT NULL,
    generation integer NOT NULL,
    position   bigint  NOT NULL,
    CONSTRAINT applied_by_tenant_key PRIMARY KEY (tenant, projection, generation)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000);

-- `key` is the row's key without the tenant, as a JSON list; of a workflow: its one key.
CREATE TABLE {namespace}.parked_events (
    id             bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    kind           text        NOT NULL,
    consumer       text        NOT NULL,
    generation     integer     NOT NULL DEFAULT 0,
    partition      integer     NOT NULL,
    tenant         text        NOT NULL,
    table_name     text        NOT NULL,
    key            text        NOT NULL,
    position       bigint      NOT NULL,
    stream         text        NOT NULL,
    event_id       text        NOT NULL,
    event_type     text        NOT NULL,
    schema_version integer     NOT NULL,
    -- Null where the event waits only because an earlier one of its key failed.
    error          text,
    parked_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parked_events_id PRIMARY KEY (id),
    CONSTRAINT parked_events_place
        UNIQUE (kind, consumer, generation, tenant, table_name, key, position)
);

-- Events that an operator decided to leave out of a consumer's fold: live, replay and verify all leave them out.
CREATE TABLE {namespace}.skipped_events (
    kind       text        NOT NULL,
    consumer   text        NOT NULL,
    partition  integer     NOT NULL,
    position   bigint      NOT NULL,
    table_name text        NOT NULL,
    tenant     text        NOT NULL,
    key        text        NOT NULL,
    actor      text        NOT NULL,
    reason     text        NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT skipped_events_key PRIMARY KEY (kind, consumer, partition, position, table_name, tenant, key)
);
