-- reading_down: take back what reading.sql and its functions made.

DROP FUNCTION {namespace}.read_filtered_v1;
DROP FUNCTION {namespace}.fill_occurrences_v1;
DROP FUNCTION {namespace}.occurrences_filled_v1;
DROP FUNCTION {namespace}.stream_version_v1;
DROP TABLE {namespace}.occurrences_filled, {namespace}.occurrences;
