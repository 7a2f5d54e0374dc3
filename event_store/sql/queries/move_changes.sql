-- move_changes: how often anything was noted of moves on this server.
--
-- Caller   event_store/placement.py

SELECT m.changes FROM {namespace}.move_changes AS m
