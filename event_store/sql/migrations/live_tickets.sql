-- live_tickets: what browsers open live streams with, since they can send no headers; each is taken once.
--
--   digest     sha256 of the ticket, which stands nowhere
--   holder     sha256 of tenant and subject, to count by
--   principal  who the ticket speaks for, as JSON
--
-- Who takes a ticket knows no tenant yet, so row security by tenant does not concern it. A ticket lasts for seconds, and
-- nobody misses one that a crash has lost: the table needs no write-ahead log.

CREATE UNLOGGED TABLE {namespace}.live_tickets (
    digest     bytea       NOT NULL,
    holder     bytea       NOT NULL,
    principal  text        NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT live_tickets_key PRIMARY KEY (digest),
    CONSTRAINT live_tickets_hashed CHECK (octet_length(digest) = 32 AND octet_length(holder) = 32)
);

CREATE INDEX live_tickets_by_holder ON {namespace}.live_tickets (holder);
CREATE INDEX live_tickets_by_time ON {namespace}.live_tickets (expires_at);

GRANT SELECT, INSERT, DELETE ON {namespace}.live_tickets TO {namespace}_query;
