-- The counts by the hour are needed by rankings alone, and not row by row in the transaction of each batch: what a batch adds to them
-- is one row here, and is folded into product_metrics_hourly together with what others add (docs/adr/0012).

create table metrics.hourly_addition (
    id       bigint   generated always as identity primary key,
    added_at timestamptz not null default clock_timestamp(),
    -- Side by side: one element for each product and hour of the batch.
    products bigint[] not null,
    -- Start of the hour, in seconds since 1970.
    hours    bigint[] not null,
    likes    bigint[] not null,
    sales    bigint[] not null,
    -- Minor units.
    amounts  bigint[] not null,
    views    bigint[] not null
);
-- It lives for a few seconds: compressing it would cost more than it saves.
alter table metrics.hourly_addition
    alter column products set storage external, alter column hours set storage external, alter column likes set storage external,
    alter column sales set storage external, alter column amounts set storage external, alter column views set storage external;

-- What happened in each hour, folded or not: several rows for a product and hour.
create view metrics.product_hour as
select product_id, hour, like_count, sales_count, sales_amount, view_count
  from metrics.product_metrics_hourly
 union all
select r.product_id, to_timestamp(r.hour), r.likes, r.sales, r.amount, r.views
  from metrics.hourly_addition a
 cross join lateral unnest(a.products, a.hours, a.likes, a.sales, a.amounts, a.views)
       as r (product_id, hour, likes, sales, amount, views);

-- Adds a batch. A function, as its plans are made once for a session: planning was half of the work of a small batch. Rows are one a
-- product, or one a product and hour; those of products are sorted, so that concurrent batches cannot deadlock. Without arrays of the
-- hours, but for which they are, each product's counts are of one hour. It has another name than add_counts, which
-- processes of the version before go on calling, and which would take such a call for a batch without hours.
create function metrics.add_batch(
    products bigint[], likes bigint[], sales bigint[], amounts bigint[], views bigint[],
    hour_products bigint[], hours bigint[], hour_likes bigint[], hour_sales bigint[], hour_amounts bigint[], hour_views bigint[])
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
    insert into metrics.product_metrics as m (product_id, like_count, sales_count, sales_amount, view_count)
    select * from unnest(products, likes, sales, amounts, views)
    on conflict (product_id) do update
       set like_count   = m.like_count   + excluded.like_count,
           sales_count  = m.sales_count  + excluded.sales_count,
           sales_amount = m.sales_amount + excluded.sales_amount,
           view_count   = m.view_count   + excluded.view_count,
           updated_at   = clock_timestamp();
    insert into metrics.hourly_addition (products, hours, likes, sales, amounts, views)
    values (coalesce(hour_products, add_batch.products), add_batch.hours, coalesce(hour_likes, add_batch.likes),
            coalesce(hour_sales, add_batch.sales), coalesce(hour_amounts, add_batch.amounts),
            coalesce(hour_views, add_batch.views));
end
$$;

-- Folds up to `additions_max` additions, the oldest first, into the counts by the hour; answers how many. Whoever folds at the same time
-- takes others, and rows are locked in one order.
create function metrics.fold_hours(additions_max integer)
returns bigint
language sql
as $$
    with oldest as (
        select id from metrics.hourly_addition order by id limit additions_max for update skip locked
    ), gone as (
        delete from metrics.hourly_addition a using oldest where a.id = oldest.id returning a.*
    ), summed as (
        select r.product_id, to_timestamp(r.hour) as hour, sum(r.likes) as likes, sum(r.sales) as sales,
               -- An hour that is beyond what a bigint holds, by taking back in others, stays at its end: the logarithm of a ranking does
               -- not see the difference, and nothing is held up by it.
               least(greatest(sum(r.amount), -9223372036854775808), 9223372036854775807) as amount, sum(r.views) as views
          from gone
         cross join lateral unnest(gone.products, gone.hours, gone.likes, gone.sales, gone.amounts, gone.views)
               as r (product_id, hour, likes, sales, amount, views)
         group by 1, 2
         order by 1, 2
    ), folded as (
        insert into metrics.product_metrics_hourly as m
               (product_id, hour, like_count, sales_count, sales_amount, view_count)
        select product_id, hour, likes, sales, amount, views from summed
        on conflict (product_id, hour) do update
           set like_count   = m.like_count   + excluded.like_count,
               sales_count  = m.sales_count  + excluded.sales_count,
               sales_amount = least(greatest(m.sales_amount::numeric + excluded.sales_amount, -9223372036854775808),
                                    9223372036854775807),
               view_count   = m.view_count   + excluded.view_count
    )
    select count(*) from gone
$$;
