-- lock_partitions: have no append under way on this server until this transaction ends.
--
-- Caller   event_store/moving.py; first in its transactions, so that two of them do not wait for each other

SELECT FROM {namespace}.partitions AS p ORDER BY p.partition FOR UPDATE
