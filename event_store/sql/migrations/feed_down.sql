-- feed_down: take away what feed.sql and its functions made.

DROP FUNCTION {namespace}.swap_generation_v1;
DROP FUNCTION {namespace}.advance_checkpoint_v1;
DROP FUNCTION {namespace}.hold_leases_v1;
DROP TABLE {namespace}.skipped_events, {namespace}.parked_events, {namespace}.applied_by_tenant,
           {namespace}.generations, {namespace}.projections, {namespace}.checkpoints,
           {namespace}.leases, {namespace}.lease_members;
