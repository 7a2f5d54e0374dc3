"""Supply's read side on real services: a story goes into the log, and its answers come out of the query API."""
