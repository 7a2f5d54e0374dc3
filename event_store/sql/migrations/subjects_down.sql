-- subjects_down: take away what subjects.sql made, unless there are keys: without them personal data is lost.
--
-- Raises   ES007 there are keys

DO $block$
BEGIN
    IF EXISTS (SELECT FROM {namespace}.subject_keys WHERE wrapped IS NOT NULL) THEN
        RAISE EXCEPTION 'personal data is encrypted with the keys that would be dropped' USING ERRCODE = 'ES007';
    END IF;
END
$block$;

DROP FUNCTION {namespace}.make_subject_keys_v1;
DROP FUNCTION {namespace}.destroy_subject_keys_v1;
DROP TABLE {namespace}.erasures;
DROP TABLE {namespace}.key_epoch;
DROP TABLE {namespace}.subject_keys;
