-- Records that the broker refuses for good, and the later records of their keys, set aside (docs/adr/0005).

-- A key, (topic, partition_key), is blocked while it has a row here: its later records come here too, in order. It is
-- released when no row of it is 'refused' any more: its rows are published in the order of their ids and deleted.
create table outbox.parked (
    -- Of the key, as in outbox.event: whoever owns the shard parks and releases.
    shard             smallint    not null,
    -- Of the event, and its order within the key. Never handed out twice within a database.
    id                bigint      not null,
    -- Identity and contents as in outbox.event: what is published later is the same record.
    event_id          uuid        not null,
    system_identifier bigint      not null,
    timeline          integer     not null,
    event_type        text        not null,
    aggregate_type    text        not null,
    aggregate_id      text        not null,
    aggregate_version bigint,
    topic             text        not null,
    partition_key     text        not null,
    payload           bytea,
    headers           bytea,
    traceparent       text,
    occurred_at       timestamptz not null,
    -- 'refused': the broker refused this record, and an operator must decide. 'waiting': behind a refused one of its
    -- key, or unparked and about to be published.
    state             text        not null,
    -- Class of the last refusal: 'too_large', 'invalid', 'unreadable'; null for a record that was never refused.
    reason            text,
    -- The words of the last refusal.
    error             text,
    -- How often the broker refused it.
    attempts          integer     not null,
    parked_at         timestamptz not null default clock_timestamp(),
    constraint parked_pkey primary key (shard, id),
    constraint parked_state check (state in ('refused', 'waiting')),
    constraint parked_refused_has_reason check (state = 'waiting' or (reason is not null and error is not null)),
    constraint parked_attempts check (attempts >= 0)
);

-- Which keys are held up by a refused record.
create index parked_refused on outbox.parked (topic, partition_key) where state = 'refused';
-- The records of a key, for operators.
create index parked_key on outbox.parked (topic, partition_key, id);

-- Raised by every action of an operator, so that the owner of the shard looks again. A table of its own, so that an
-- operator never waits for a position and a relay never for an operator.
create table outbox.parked_change (
    shard    smallint primary key,
    revision bigint   not null default 0
);
insert into outbox.parked_change (shard) select generate_series(0, 15);

-- What operators did with parked records: one row for each record of an action.
create table outbox.parked_audit (
    id             bigint      generated always as identity primary key,
    done_at        timestamptz not null default clock_timestamp(),
    -- Who did it, by their own word.
    done_by        text        not null,
    -- 'unpark' or 'discard'.
    action         text        not null,
    -- Why, in the operator's words.
    why            text        not null,
    -- The record, so that it can be traced after it is gone.
    shard          smallint    not null,
    event_row      bigint      not null,
    event_id       uuid        not null,
    event_type     text        not null,
    topic          text        not null,
    partition_key  text        not null,
    -- As it was before the action.
    state          text        not null,
    reason         text,
    attempts       integer     not null,
    constraint parked_audit_action check (action in ('unpark', 'discard'))
);
create index parked_audit_key on outbox.parked_audit (topic, partition_key, id);
