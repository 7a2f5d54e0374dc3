-- advance_idle: move the checkpoints of consumers for which a page held nothing, all at once.
--
--   $1 kind   $2 consumers   $3 generations   $4 partition
--   $5 positions, $6 hashes, $7 revisions believed   $8 position, $9 hash, $10 time of the commit moved to
--
-- Returns  those that moved; one that is missing is not where its caller believes it to be
-- Caller   event_store/checkpoints.py, Checkpoints.advance_idle

WITH moved AS (
    UPDATE {namespace}.checkpoints AS c
       SET position = $8, commit_hash = $9, recorded_at = $10, waiting_for = NULL, updated_at = now()
      FROM unnest($2::text[], $3::integer[], $5::bigint[], $6::bytea[], $7::integer[])
           AS i (consumer, generation, position, hash, revision)
     WHERE c.kind = $1 AND c.partition = $4 AND c.consumer = i.consumer AND c.generation = i.generation
       AND c.position = i.position AND c.commit_hash = i.hash AND c.revision = i.revision
    RETURNING c.consumer, c.generation
)
SELECT consumer, generation, set_config('synchronous_commit', 'off', true) FROM moved
