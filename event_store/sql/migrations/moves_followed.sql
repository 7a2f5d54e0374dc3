-- moves_followed: what is kept by a position says in which partition it is, since tenants move (docs/decisions/0020).
--
--   applied_by_tenant.partition   where the tenant's last folded event stands; null in rows that are older than this.
--   scheduled_commands.partition  -1 - p while the tenant is on its way to partition p: nobody fires its timers.

ALTER TABLE {namespace}.applied_by_tenant ADD COLUMN partition integer;

ALTER TABLE {namespace}.parked_events
    DROP CONSTRAINT parked_events_place,
    ADD CONSTRAINT parked_events_place
        UNIQUE (kind, consumer, generation, tenant, table_name, key, partition, position);
