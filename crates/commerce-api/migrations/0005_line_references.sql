-- What the foreign keys of shop.order_line said, checked for all lines of a statement at once (ADR 15). Refusals keep their SQLSTATE,
-- 23503, and the names of the constraints.

-- Lines refer to products and orders that exist, and that stay until the transaction of the lines has ended.
create function shop.check_line_references() returns trigger
language plpgsql
-- Plans are kept: one that was made for empty tables must not read them whole when they have grown.
set enable_seqscan = off
as $$
declare
    missing bigint;
begin
    select wanted.id into missing
      from (select distinct product_id as id from line order by 1) wanted
      left join lateral (select true as is_held from shop.product where id = wanted.id for key share) held on true
     where held.is_held is null
     limit 1;
    if found then
        raise foreign_key_violation using message = format('an order line names product %s, which does not exist', missing),
            schema = 'shop', table = 'order_line', constraint = 'order_line_product';
    end if;
    select wanted.id into missing
      from (select id from (select distinct order_id as id from line order by 1) named
             -- What this very transaction wrote nobody else can take away. Most lines come with their order.
             where (select xmin from shop.orders where id = named.id) is distinct from pg_current_xact_id()::xid
            offset 0) wanted
      left join lateral (select true as is_held from shop.orders where id = wanted.id for key share) held on true
     where held.is_held is null
     limit 1;
    if found then
        raise foreign_key_violation using message = format('an order line names order %s, which does not exist', missing),
            schema = 'shop', table = 'order_line', constraint = 'order_line_order_id_fkey';
    end if;
    return null;
end
$$;

-- What lines refer to is not taken away. A delete has waited for those who held the row; what they wrote is seen by a statement of
-- its own, but not by a transaction that goes on with an older snapshot.
create function shop.keep_what_lines_name() returns trigger
language plpgsql
as $$
declare
    is_named boolean;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise feature_not_supported using message = format('rows of shop.%s are taken away under read committed only', tg_table_name),
            hint = 'A transaction with one snapshot does not see which lines name them by now.';
    end if;
    is_named := case
        when tg_op = 'TRUNCATE' then exists (select from shop.order_line)
        when tg_table_name = 'product' then exists (select from shop.order_line where product_id = old.id)
            and not exists (select from shop.product where id = old.id)
        else exists (select from shop.order_line where order_id = old.id)
            and not exists (select from shop.orders where id = old.id)
    end;
    if is_named then
        raise foreign_key_violation using message = format('order lines name rows of shop.%s that would be gone', tg_table_name),
            schema = 'shop', table = 'order_line',
            constraint = case tg_table_name when 'product' then 'order_line_product' else 'order_line_order_id_fkey' end;
    end if;
    return null;
end
$$;

alter table shop.order_line drop constraint order_line_product, drop constraint order_line_order_id_fkey;

create trigger check_references_of_new after insert on shop.order_line
    referencing new table as line for each statement execute function shop.check_line_references();
create trigger check_references_of_changed after update on shop.order_line
    referencing new table as line for each statement execute function shop.check_line_references();

create trigger keep_what_lines_name after delete or update of id on shop.product
    for each row execute function shop.keep_what_lines_name();
create trigger keep_what_lines_name after delete or update of id on shop.orders
    for each row execute function shop.keep_what_lines_name();
create trigger keep_all_that_lines_name after truncate on shop.product
    for each statement execute function shop.keep_what_lines_name();
create trigger keep_all_that_lines_name after truncate on shop.orders
    for each statement execute function shop.keep_what_lines_name();
