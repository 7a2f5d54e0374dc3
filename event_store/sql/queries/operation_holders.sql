-- operation_holders: who carries out something at this moment.
--
-- Caller   event_store/operations.py, Operations.claim

SELECT DISTINCT holder FROM {namespace}.operations WHERE state = 'running'
