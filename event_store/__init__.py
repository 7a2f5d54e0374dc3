"""The log: append, read, relay, and what every consumer of it needs."""
