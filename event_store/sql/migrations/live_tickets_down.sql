-- live_tickets_down: take away what live_tickets.sql made.

DROP TABLE {namespace}.live_tickets;
