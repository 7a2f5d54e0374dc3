-- heads_down: take away what heads.sql made.

DROP FUNCTION {namespace}.era_v1();
DROP TABLE {namespace}.epochs;
DROP TABLE {namespace}.log_identity;
