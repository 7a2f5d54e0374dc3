-- operations_down: take away what operations.sql made.

DROP FUNCTION {namespace}.session_waits_v1;
REVOKE SELECT ON {namespace}.leases FROM {namespace}_query;
DROP TABLE {namespace}.drift_findings, {namespace}.drift_checks, {namespace}.operations;
