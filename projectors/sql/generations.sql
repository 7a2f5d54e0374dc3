-- generations: all generations that still have tables.
--
-- Caller   projectors/generations.py, Generations.all

SELECT projection, generation, version, state, schema, started_at, ended_at, note, now() - ended_at AS kept_for
  FROM {namespace}.generations WHERE state <> 'dropped' ORDER BY projection, generation
