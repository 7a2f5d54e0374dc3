-- applied: the live generation of every projection, and how far it is in some partitions.
--
--   :partitions   those that are asked for here
--
-- Returns  one row per projection and partition; partition null where it has none of them yet
-- Caller   query_api/applied.py

SELECT p.name, p.generation, p.version, c.partition, c.position, c.revision, encode(substr(c.commit_hash, 1, 4), 'hex') AS hash_prefix,
    {namespace}.era_v1() AS era
FROM {namespace}.projections AS p
LEFT JOIN {namespace}.checkpoints AS c
    ON c.kind = 'projection' AND c.consumer = p.name AND c.generation = p.generation
    AND c.partition = ANY(:partitions::integer[])
