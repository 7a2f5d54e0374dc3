-- move_streams_to: take down the versions that streams had when their tenant came to a partition.
--
--   $1 partition   $2 tenant   $3 streams, $4 versions
--
-- Caller   event_store/moving.py, Mover._copy
--
-- A first position of 0 says that the stream began elsewhere. What is there already stays: it may have grown since.

INSERT INTO {namespace}.streams (partition, version, first_position, last_position, tenant, stream)
SELECT $1, u.version, 0, 0, $2, u.stream FROM unnest($3::text[], $4::bigint[]) AS u (stream, version)
ON CONFLICT (stream, tenant, partition) DO NOTHING
