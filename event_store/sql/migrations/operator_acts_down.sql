-- operator_acts_down: take away what operator_acts.sql made.

DROP TABLE {namespace}.operator_acts;
