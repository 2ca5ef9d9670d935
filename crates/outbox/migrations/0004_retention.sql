-- Retention by whole segments, and a view whose cost does not depend on how long a transaction stays open.

create table outbox.segment (
    -- Ring slot, as in outbox.event.
    segment    smallint    primary key,
    -- When the segment was last known to hold no row: what it holds now was written later.
    emptied_at timestamptz not null default clock_timestamp()
);

insert into outbox.segment (segment) select generate_series(0, 3);

-- What is committed and not yet published. For operators; the relay reads by window. Not visible in a position are the
-- transactions that began after it, and those that ran in it. The oldest of the latter bounds nothing: it may have been
-- open for hours.
create or replace view outbox.unpublished as
select e.*
  from outbox.event e
  join outbox.shard s using (shard)
       -- A bound for the index: what began before the earliest position ended is in the other half.
 where e.txid >= (select min(pg_snapshot_xmax(position)) from outbox.shard)
   and not pg_visible_in_snapshot(e.txid, s.position)
   and not (s.window_end is not null and pg_visible_in_snapshot(e.txid, s.window_end) and e.id <= s.window_last_id)
union all
select e.*
  from outbox.event e
  join outbox.shard s using (shard)
 where e.txid = any (array(select running from outbox.shard, pg_snapshot_xip(position) as running))
   and e.txid < (select min(pg_snapshot_xmax(position)) from outbox.shard)
   and not pg_visible_in_snapshot(e.txid, s.position)
   and not (s.window_end is not null and pg_visible_in_snapshot(e.txid, s.window_end) and e.id <= s.window_last_id);
