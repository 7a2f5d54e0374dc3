-- take_ticket: take a ticket; nobody can take it again.
--
--   :digest   sha256 of the ticket
--
-- Returns  whom it speaks for; no row where there is no such ticket, or it has expired
-- Caller   query_api/live/tickets.py

WITH taken AS (
    DELETE FROM {namespace}.live_tickets WHERE digest = :digest::bytea RETURNING principal, expires_at
)
SELECT principal FROM taken WHERE expires_at >= now()
