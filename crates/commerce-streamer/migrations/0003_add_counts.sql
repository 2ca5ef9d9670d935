-- Adds a batch. A function, as its plans are made once for a session: planning was half of the work of a small batch. Rows are one a
-- product, or one a product and hour, sorted, so that concurrent batches cannot deadlock.
create function metrics.add_counts(
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
    insert into metrics.product_metrics_hourly as m
           (product_id, hour, like_count, sales_count, sales_amount, view_count)
    select r.product_id, to_timestamp(r.hour), r.likes, r.sales, r.amount, r.views
      from unnest(hour_products, hours, hour_likes, hour_sales, hour_amounts, hour_views)
        as r (product_id, hour, likes, sales, amount, views)
    on conflict (product_id, hour) do update
       set like_count   = m.like_count   + excluded.like_count,
           sales_count  = m.sales_count  + excluded.sales_count,
           sales_amount = m.sales_amount + excluded.sales_amount,
           view_count   = m.view_count   + excluded.view_count;
end
$$;

-- Adds to the tallies of a partition, one a kind.
create function metrics.add_applied(
    of_topic text, of_partition integer, kinds text[], of_events bigint[], of_units bigint[])
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
    insert into metrics.applied as a (topic, partition, kind, events, units)
    select of_topic, of_partition, r.kind, r.events, r.units
      from unnest(kinds, of_events, of_units) as r (kind, events, units)
    on conflict (topic, partition, kind) do update
       set events = a.events + excluded.events, units = a.units + excluded.units;
end
$$;
