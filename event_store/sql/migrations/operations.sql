-- operations: what operators have asked for, and what the drift detector has checked and found.
--
--   operations      one row for everything that an operator starts; the role that owns the matter carries it out. A
--                   holder that does not renew in time has died: another takes the row up, and goes on where it was.
--                   The rows are platform operators' alone; a tenant that a request names stands in its JSON.
--   drift_checks    one row per slice of a generation's rows in a partition: when it was last compared with its fold.
--   drift_findings  rows that were not what the log says, and when they were put right.

CREATE TABLE {namespace}.operations (
    id              uuid        NOT NULL,
    kind            text        NOT NULL,
    request         jsonb       NOT NULL,
    actor           text        NOT NULL,
    reason          text,
    -- Two requests with the same key are one.
    request_key     text,
    state           text        NOT NULL DEFAULT 'waiting',
    asked_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    ended_at        timestamptz,
    cancel_asked_at timestamptz,
    holder          text,
    held_until      timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    progress        jsonb       NOT NULL DEFAULT '{}',
    result          jsonb,
    error           text,
    CONSTRAINT operations_id PRIMARY KEY (id),
    CONSTRAINT operations_request_key UNIQUE (request_key),
    CONSTRAINT operations_state CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled'))
);

CREATE INDEX operations_open ON {namespace}.operations (id) WHERE state IN ('waiting', 'running');

CREATE TABLE {namespace}.drift_checks (
    projection text             NOT NULL,
    generation integer          NOT NULL,
    partition  integer          NOT NULL,
    slice      integer          NOT NULL,
    slices     integer          NOT NULL,
    checked_at timestamptz      NOT NULL,
    rows       bigint           NOT NULL,
    seconds    double precision NOT NULL,
    -- How many rows have differed so far, over all checks.
    differed   bigint           NOT NULL,
    CONSTRAINT drift_checks_key PRIMARY KEY (projection, generation, partition, slice, slices)
);

CREATE TABLE {namespace}.drift_findings (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    found_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    projection text        NOT NULL,
    generation integer     NOT NULL,
    partition  integer     NOT NULL,
    tenant     text        COLLATE "C" NOT NULL,
    table_name text        NOT NULL,
    key        text        NOT NULL,
    what       text        NOT NULL,
    mended_at  timestamptz,
    CONSTRAINT drift_findings_id PRIMARY KEY (id),
    CONSTRAINT drift_findings_what CHECK (what IN ('differs', 'missing', 'extra'))
);

GRANT SELECT, INSERT, UPDATE, DELETE
   ON {namespace}.operations, {namespace}.drift_checks, {namespace}.drift_findings TO {namespace}_feed;
-- Operators ask over the query API; what is carried out, and how, is said by the role that owns it.
GRANT SELECT, INSERT (id, kind, request, actor, reason, request_key),
      UPDATE (state, ended_at, cancel_asked_at) ON {namespace}.operations TO {namespace}_query;
GRANT SELECT ON {namespace}.drift_checks, {namespace}.leases TO {namespace}_query;
SELECT {namespace}.guard_every_table_v1();
