-- workflows: what workflows keep beside their checkpoints.
--
--   scheduled_commands  commands to be sent later: one row per tenant and the workflow's own key. Times are the
--                       database's. `due_at` is when it should be sent and what it says as its `occurred_at`;
--                       `try_at` is when it is looked at next, later than `due_at` after an attempt that failed.
--                       `fields` are the command's ids and body as JSON.
--   workflow_answers    what reactions in progress have been told that the log does not keep, refusals and how far
--                       a read went, so that a reaction that runs again after a crash is told the same. Rows go
--                       when their reaction has ended.
--
-- They stand in the database of the checkpoints, because they are written in the checkpoint's transaction.

CREATE TABLE {namespace}.scheduled_commands (
    partition       integer     NOT NULL,
    workflow        text        COLLATE "C" NOT NULL,
    tenant          text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    due_at          timestamptz NOT NULL,
    try_at          timestamptz NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    last_error      text,
    command         text        NOT NULL,
    fields          bytea       NOT NULL,
    idempotency_key text        NOT NULL,
    causation_id    text        NOT NULL,
    correlation_id  text        NOT NULL,
    traceparent     text,
    scheduled_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT scheduled_commands_key PRIMARY KEY (partition, workflow, tenant, key)
);

CREATE INDEX scheduled_commands_next ON {namespace}.scheduled_commands (partition, workflow, try_at);

CREATE TABLE {namespace}.workflow_answers (
    partition integer NOT NULL,
    workflow  text    COLLATE "C" NOT NULL,
    position  bigint  NOT NULL,
    step      text    COLLATE "C" NOT NULL,
    answer    bytea   NOT NULL,
    CONSTRAINT workflow_answers_key PRIMARY KEY (partition, workflow, position, step)
);
