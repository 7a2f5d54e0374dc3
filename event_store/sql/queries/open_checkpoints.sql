-- open_checkpoints: the checkpoints of some consumers in one partition, made at the beginning where there are none.
--
--   $1 kind   $2 consumers   $3 generations   $4 partition
--
-- Caller   event_store/checkpoints.py, Checkpoints.open

WITH asked AS (
    SELECT * FROM unnest($2::text[], $3::integer[]) AS a (consumer, generation)
), made AS (
    INSERT INTO {namespace}.checkpoints (kind, consumer, generation, partition)
    SELECT $1::text, a.consumer, a.generation, $4::integer FROM asked AS a
     WHERE NOT EXISTS (SELECT FROM {namespace}.checkpoints AS c
                        WHERE c.kind = $1 AND c.consumer = a.consumer
                          AND c.generation = a.generation AND c.partition = $4)
    ON CONFLICT ON CONSTRAINT checkpoints_key DO NOTHING
    RETURNING consumer, generation, position, commit_hash, revision
)
SELECT consumer, generation, position, commit_hash, revision FROM made
UNION ALL
SELECT c.consumer, c.generation, c.position, c.commit_hash, c.revision
  FROM asked AS a
  JOIN {namespace}.checkpoints AS c
    ON c.kind = $1 AND c.consumer = a.consumer AND c.generation = a.generation AND c.partition = $4
