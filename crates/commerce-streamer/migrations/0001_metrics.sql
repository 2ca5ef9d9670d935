-- What buyers see: counts and states folded from the events.

create table metrics.product_metrics (
    product_id   bigint      primary key,
    like_count   bigint      not null default 0,
    sales_count  bigint      not null default 0,
    -- Minor units.
    sales_amount bigint      not null default 0,
    view_count   bigint      not null default 0,
    updated_at   timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create table metrics.product_metrics_hourly (
    product_id   bigint      not null,
    -- Start of the hour of the event's own time.
    hour         timestamptz not null,
    like_count   bigint      not null default 0,
    sales_count  bigint      not null default 0,
    sales_amount bigint      not null default 0,
    view_count   bigint      not null default 0,
    primary key (product_id, hour)
) with (fillfactor = 70);

-- Events applied by kind, in the transaction that applied them; a row for each partition so that owners do not wait
-- for each other. Σ over kinds equals what product_metrics sums up to (promise P8).
create table metrics.applied (
    topic     text    not null,
    partition integer not null,
    kind      text    not null,
    events    bigint  not null default 0,
    -- Units: quantities for orders, 1 an event for likes and views.
    units     bigint  not null default 0,
    primary key (topic, partition, kind)
) with (fillfactor = 50);

create table metrics.product_stock (
    product_id bigint      primary key,
    sold_out   boolean     not null,
    version    bigint      not null,
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- An invalidation of the product cache that is owed; cleared after it was done, swept by any peer.
create table metrics.cache_intent (
    product_id bigint      primary key,
    version    bigint      not null,
    sold_out   boolean     not null,
    created_at timestamptz not null default clock_timestamp()
);
create index cache_intent_by_age on metrics.cache_intent (created_at);
