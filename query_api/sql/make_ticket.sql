-- make_ticket: keep a ticket that opens one live stream, unless its holder has too many that nobody has taken.
--
--   :digest      sha256 of the ticket
--   :holder      sha256 of tenant and subject
--   :principal   who the ticket speaks for, as JSON
--   :seconds     how long it lasts
--   :tickets_max how many of one holder may wait
--
-- Returns  one row: how many were kept
-- Caller   query_api/live/tickets.py

WITH old AS (
    DELETE FROM {namespace}.live_tickets WHERE expires_at < now()
), made AS (
    INSERT INTO {namespace}.live_tickets (digest, holder, principal, expires_at)
    SELECT :digest::bytea, :holder::bytea, :principal::text, now() + make_interval(secs => :seconds::double precision)
     WHERE (SELECT count(*) FROM {namespace}.live_tickets AS t WHERE t.holder = :holder::bytea AND t.expires_at >= now())
           < :tickets_max::bigint
    RETURNING digest
)
SELECT count(*) AS made FROM made
