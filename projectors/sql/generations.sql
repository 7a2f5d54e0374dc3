-- generations: all generations that still have tables.
--
-- Caller   projectors/generations.py, Generations.all

SELECT projection, generation, version, state, schema, started_at, ended_at, note
  FROM {namespace}.generations WHERE state <> 'dropped' ORDER BY projection, generation
