-- The living relays: they share the shards evenly among themselves.
create table outbox.relay (
    -- Its name among all relays of the database, as in outbox.shard.owner.
    owner      text        primary key,
    -- Counted as living until then, by the database's clock; prolonged together with the leases.
    seen_until timestamptz not null
) with (fillfactor = 50);
