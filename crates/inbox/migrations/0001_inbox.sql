-- The consumer's side: position, idempotency, and dead letters, all written in the transaction of the effect.

create table inbox.consumer_group (
    id   smallint generated always as identity primary key,
    name text     not null constraint consumer_group_name unique
);

create table inbox.progress (
    consumer_group smallint    not null references inbox.consumer_group,
    topic          text        not null,
    partition      integer     not null,
    -- Reading goes on here. The fence: every batch moves it by compare-and-set.
    next_offset    bigint      not null,
    -- The log start at first assignment: next_offset - first_offset = handled + duplicates + dead_lettered + skipped.
    first_offset   bigint      not null,
    handled        bigint      not null default 0,
    duplicates     bigint      not null default 0,
    dead_lettered  bigint      not null default 0,
    -- Offsets that carry nothing for this group: control records, compacted holes, event types that it does not use.
    skipped        bigint      not null default 0,
    owner          text,
    updated_at     timestamptz not null default clock_timestamp(),
    primary key (consumer_group, topic, partition)
) with (fillfactor = 50);

-- One outbox incarnation (ce_source) each.
create table inbox.source (
    source_id smallint generated always as identity primary key,
    ce_source text     not null constraint source_ce_source unique
);

-- One bit for each event of an outbox: bit (sequence % 4096) of block (sequence / 4096), in the lane of its key.
create table inbox.event_handled (
    consumer_group smallint not null,
    source_id      smallint not null,
    lane           smallint not null,
    block          bigint   not null,
    bits           bytea    not null,
    primary key (consumer_group, source_id, lane, block),
    constraint event_handled_block_size check (octet_length(bits) = 512)
) with (fillfactor = 50);
alter table inbox.event_handled alter column bits set storage plain;

-- Events of producers without a sequence.
create table inbox.event_handled_id (
    consumer_group smallint    not null,
    event_id       uuid        not null,
    handled_at     timestamptz not null default clock_timestamp(),
    primary key (consumer_group, event_id)
);

create table inbox.dead_letter (
    -- uuidv5 of (group, topic, partition, offset).
    id             uuid        primary key,
    consumer_group text        not null,
    topic          text        not null,
    partition      integer     not null,
    "offset"       bigint      not null,
    key            bytea,
    -- At most 1 MiB of it; value_bytes says how long it was.
    value          bytea,
    value_bytes    bigint,
    -- Record headers in the encoding of `inbox::dead_letter`.
    headers        jsonb       not null,
    -- When the broker or producer stamped the record, milliseconds since the epoch; null if unknown.
    record_timestamp bigint,
    -- Who stamped it, in Kafka's words.
    record_timestamp_type text
                   constraint dead_letter_timestamp_type check (record_timestamp_type in ('CreateTime', 'LogAppendTime')),
    event_id       text,
    event_type     text,
    -- Stable slug, for example undecodable, missing_event_id, refused.
    reason         text        not null,
    fingerprint    text        not null,
    error          text        not null,
    attempts       integer     not null default 1,
    first_seen     timestamptz not null default clock_timestamp(),
    last_seen      timestamptz not null default clock_timestamp(),
    status         text        not null default 'new'
                   constraint dead_letter_status check (status in ('new', 'published', 'redriven', 'discarded')),
    redrive_count  integer     not null default 0,
    traceparent    text,
    constraint dead_letter_origin unique (consumer_group, topic, partition, "offset")
);
create index dead_letter_unpublished on inbox.dead_letter (first_seen) where status = 'new';
