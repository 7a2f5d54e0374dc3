"""What PostgreSQL does for the queries that serve traffic, on tables of a size at which a bad plan hurts."""
