-- outgoing: what workflows tell the outside world, until it is delivered; and which version of a workflow failed.
--
--   outgoing_messages  one row per message, written in the transaction that moves its workflow's checkpoint. `id` is
--                      derived from the event, the workflow and the step, so it is the same however often the message
--                      is sent: receivers drop repeats by it. `body` is what is sent, byte for byte, at every attempt;
--                      it holds no personal data. `try_at` is when it may be taken up next: an attempt under way has
--                      moved it beyond its own end, so no other process takes the same message meanwhile.
--                      `position` is that of the event which it follows from.
--   parked_events.consumer_version    the version of the workflow that could not react: a higher one tries again
--
-- States: `waiting` for an attempt, `delivered`, `dead` (given up: an operator decides), `unrouted` (no channel of that
-- name was configured when it was to be sent).

CREATE TABLE {namespace}.outgoing_messages (
    id             text        COLLATE "C" NOT NULL,
    partition      integer     NOT NULL,
    workflow       text        COLLATE "C" NOT NULL,
    tenant         text        COLLATE "C" NOT NULL,
    channel        text        COLLATE "C" NOT NULL,
    type           text        NOT NULL,
    summary        text        NOT NULL,
    body           bytea       NOT NULL,
    stream         text        COLLATE "C" NOT NULL,
    position       bigint      NOT NULL,
    causation_id   text        NOT NULL,
    correlation_id text        NOT NULL,
    traceparent    text,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    state          text        NOT NULL DEFAULT 'waiting',
    attempts       integer     NOT NULL DEFAULT 0,
    try_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error     text,
    ended_at       timestamptz,
    CONSTRAINT outgoing_messages_key PRIMARY KEY (id),
    CONSTRAINT outgoing_messages_state CHECK (state IN ('waiting', 'delivered', 'dead', 'unrouted')),
    CONSTRAINT outgoing_messages_ended CHECK ((ended_at IS NULL) = (state = 'waiting'))
);

CREATE INDEX outgoing_messages_due ON {namespace}.outgoing_messages (channel, try_at) WHERE state = 'waiting';
CREATE INDEX outgoing_messages_ended_at ON {namespace}.outgoing_messages (state, ended_at) WHERE state <> 'waiting';
CREATE INDEX outgoing_messages_open ON {namespace}.outgoing_messages (tenant, created_at) WHERE state <> 'delivered';
CREATE INDEX outgoing_messages_stream ON {namespace}.outgoing_messages (tenant, stream);

GRANT SELECT, INSERT, UPDATE, DELETE ON {namespace}.outgoing_messages TO {namespace}_feed;

ALTER TABLE {namespace}.parked_events ADD COLUMN consumer_version integer;

SELECT {namespace}.guard_every_table_v1();
