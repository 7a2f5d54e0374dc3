-- heads: where every partition of this server ends.
--
-- Returns  one row per partition; nulls where nothing was ever appended
-- Caller   event_store/postgres.py, PostgresLog.heads

SELECT p.partition, h.last_position, h.hash
  FROM {namespace}.partitions AS p
  LEFT JOIN LATERAL (
       SELECT c.last_position, c.hash FROM {namespace}.commits AS c
        WHERE c.partition = p.partition ORDER BY c.last_position DESC LIMIT 1) AS h ON true
