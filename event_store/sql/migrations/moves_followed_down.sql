-- moves_followed_down: undo moves_followed.

ALTER TABLE {namespace}.parked_events
    DROP CONSTRAINT parked_events_place,
    ADD CONSTRAINT parked_events_place
        UNIQUE (kind, consumer, generation, tenant, table_name, key, position);

ALTER TABLE {namespace}.applied_by_tenant DROP COLUMN partition;
