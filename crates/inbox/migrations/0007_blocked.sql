-- Projections of strict order: what comes after a dead letter of its key waits behind it.

alter table inbox.dead_letter
    -- The key, as a digest that an index can hold; null unless the projection is strict and the record has a key.
    add column key_digest uuid,
    -- Its place among the letters of its key; null as above. Never used twice.
    add column turn bigint,
    -- blocked: waits behind an earlier letter of its key. released: had its effect when its turn came.
    drop constraint dead_letter_status,
    add constraint dead_letter_status
        check (status in ('new', 'published', 'blocked', 'released', 'redriven', 'discarded'));

create sequence inbox.dead_letter_turn;
create unique index dead_letter_by_turn on inbox.dead_letter (consumer_group, topic, key_digest, turn) where turn is not null;

drop index inbox.dead_letter_open;
create index dead_letter_open on inbox.dead_letter (consumer_group, status, first_seen)
    where status in ('new', 'published', 'blocked');

-- Keys whose events wait. Whoever adds to the letters of a key, or takes from them, holds its row: before any letter is
-- locked, and in the order of the primary key.
create table inbox.blocked_key (
    consumer_group text        not null,
    topic          text        not null,
    key_digest     uuid        not null,
    -- Letters up to this turn are done with; those behind it are the queue.
    passed_turn    bigint      not null default 0,
    -- The first letter of the queue waits for no operator: a consumer may go on with it.
    is_released    boolean     not null default false,
    blocked_at     timestamptz not null default clock_timestamp(),
    primary key (consumer_group, topic, key_digest)
);
create index blocked_key_released on inbox.blocked_key (consumer_group) where is_released;

alter table inbox.consumer_group
    -- Events of letters that had their effect in their turn. They count here, not in progress.handled.
    add column released bigint not null default 0,
    -- Events of letters that were discarded, remembered as handled so that they do not have their effect out of their turn.
    add column given_up bigint not null default 0;
