-- The transactional outbox: append-only rows, read by the difference of two snapshots (docs/adr/0001).

create sequence outbox.event_id as bigint cache 1;

-- This server's history: the ids that a restored or promoted server hands out again belong to another (system identifier,
-- timeline), so the three together are never reused. The timeline is taken from the WAL file in use, because the control
-- file shows a promotion only after the next checkpoint. Stored with each event and not in a table of its own: the first
-- append of a new history would have to insert there, and every other append would wait for its transaction to end.
create function outbox.current_history(out system_identifier bigint, out timeline integer)
language sql volatile as $$
    select control.system_identifier,
           ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer
      from pg_control_system() control
$$;

create table outbox.event (
    -- The inserting transaction; assigned before the id, so that whoever waited for a key's lock has the later id.
    txid              xid8        not null default pg_current_xact_id(),
    -- Order within a window, and the event's ce_sequence.
    id                bigint      not null default nextval('outbox.event_id'),
    -- Unit of ownership: hash of the partition key.
    shard             smallint    not null,
    -- Unit of retention: ring slot by hour.
    segment           smallint    not null default ((extract(epoch from statement_timestamp())::bigint / 3600) % 4)::smallint,
    -- Stable over every resend.
    event_id          uuid        not null,
    -- The history (`outbox.current_history`) in which the id was handed out: the event's ce_source.
    system_identifier bigint      not null,
    timeline          integer     not null,
    event_type        text        not null,
    aggregate_type    text        not null,
    aggregate_id      text        not null,
    -- The number of the aggregate's change; null where the aggregate has no versions (a like).
    aggregate_version bigint,
    topic             text        not null,
    partition_key     text        not null,
    -- Bytes as they go on the wire; null is a tombstone.
    payload           bytea,
    -- Further record headers in the encoding of `outbox::headers`.
    headers           bytea,
    traceparent       text,
    occurred_at       timestamptz not null
) partition by list (segment);

create table outbox.event_0 partition of outbox.event for values in (0);
create table outbox.event_1 partition of outbox.event for values in (1);
create table outbox.event_2 partition of outbox.event for values in (2);
create table outbox.event_3 partition of outbox.event for values in (3);

-- The one index: a window is a range of transactions; the shard is filtered inside the index.
create index event_window on outbox.event (txid, shard);

create table outbox.shard (
    shard             smallint    primary key,
    owner             text,
    -- Raised with every change of owner; every write of a position names it.
    epoch             bigint      not null default 0,
    lease_until       timestamptz not null default '-infinity',
    -- Every row visible in this snapshot is published.
    position          pg_snapshot not null,
    -- The window being published, and the last id of it that is published; null between windows.
    window_end        pg_snapshot,
    window_last_id    bigint,
    -- The server whose transaction ids the position speaks of.
    system_identifier bigint      not null,
    constraint shard_window_whole check ((window_end is null) = (window_last_id is null))
) with (fillfactor = 50);

insert into outbox.shard (shard, position, system_identifier)
select s, pg_current_snapshot(), (select system_identifier from pg_control_system())
  from generate_series(0, 15) s;

-- Snapshots taken each second: they bound every window, also while no relay runs.
create table outbox.tick (
    id       bigint      generated always as identity primary key,
    snapshot pg_snapshot not null,
    taken_at timestamptz not null default clock_timestamp()
);
create index tick_by_snapshot on outbox.tick ((pg_snapshot_xmax(snapshot)), id);

-- What is committed and not yet published. For operators; the relay reads by window.
create view outbox.unpublished as
select e.*
  from outbox.event e
  join outbox.shard s using (shard)
       -- Only a bound for the index: whatever ended before the oldest transaction of any position is published.
 where e.txid >= (select min(pg_snapshot_xmin(position)) from outbox.shard)
   and not pg_visible_in_snapshot(e.txid, s.position)
   and not (s.window_end is not null and pg_visible_in_snapshot(e.txid, s.window_end) and e.id <= s.window_last_id);
