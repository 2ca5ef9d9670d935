-- The window of deduplication gets an end: what is older is forgotten, and known to be forgotten.

-- How far a group has forgotten a source. An event of a block below the floor that is not remembered may have been handled:
-- it becomes a dead letter and is never counted twice. No row: nothing is forgotten.
create table inbox.dedup_window (
    consumer_group smallint not null references inbox.consumer_group,
    source_id      smallint not null references inbox.source,
    floor_block    bigint   not null,
    -- Events that were remembered as handled and are not any more.
    forgotten      bigint   not null,
    primary key (consumer_group, source_id)
);

-- The highest block that a group had of a source at a time: so old are that block and those below it. One row a round of
-- retention, so that blocks need no time of their own.
create table inbox.dedup_sample (
    consumer_group smallint    not null references inbox.consumer_group,
    source_id      smallint    not null references inbox.source,
    taken_at       timestamptz not null default clock_timestamp(),
    block          bigint      not null,
    primary key (consumer_group, source_id, taken_at)
);

alter table inbox.consumer_group
    -- As dedup_window.floor_block, for events that are known by a UUIDv7: weeks below it are forgotten. Null: none is.
    add column floor_week    integer,
    -- Ids that were remembered as handled and are not any more.
    add column forgotten_ids bigint not null default 0;

-- Ids by the week in which they were made, so that a week is dropped and not deleted row by row.
alter table inbox.event_handled_id rename to event_handled_id_unparted;
alter table inbox.event_handled_id_unparted rename constraint event_handled_id_pkey to event_handled_id_unparted_pkey;

create table inbox.event_handled_id (
    consumer_group smallint    not null,
    -- Weeks from 1970 to the time in a UUIDv7; -1 for an id that is none.
    week           integer     not null,
    event_id       uuid        not null,
    handled_at     timestamptz not null default clock_timestamp(),
    primary key (consumer_group, week, event_id)
) partition by range (week);

-- Ids that are no UUIDv7, and those of weeks that have no partition. Partitions of weeks are named event_handled_id_w….
create table inbox.event_handled_id_rest partition of inbox.event_handled_id default;
create index event_handled_id_rest_age on inbox.event_handled_id_rest (week, handled_at);

-- The partition of a week, unless it is there or the rest holds rows of it.
create function inbox.add_id_week(week integer) returns boolean language plpgsql as $$
begin
    if to_regclass(format('inbox.event_handled_id_w%s', week)) is not null
       or exists (select from inbox.event_handled_id_rest rest where rest.week = add_id_week.week) then
        return false;
    end if;
    execute format('create table inbox.event_handled_id_w%s partition of inbox.event_handled_id for values from (%s) to (%s)',
                   week, week, week + 1);
    return true;
end
$$;

select inbox.add_id_week(this_week + ahead)
  from (select floor(extract(epoch from now()) / 604800)::integer as this_week) as clock, generate_series(-4, 4) as ahead;

insert into inbox.event_handled_id (consumer_group, week, event_id, handled_at)
select consumer_group,
       case when get_byte(id, 6) >> 4 = 7 and get_byte(id, 8) >> 6 = 2
            then (('x' || encode(substr(id, 1, 6), 'hex'))::bit(48)::bigint / 604800000)::integer
            else -1 end,
       event_id, handled_at
  from (select *, uuid_send(event_id) as id from inbox.event_handled_id_unparted) as old;

drop table inbox.event_handled_id_unparted;
