-- Partitions that are not read until an operator says so, and offsets that an operator moved.

-- Why the partition is not read, set in the transaction that stopped it; null while it is read.
alter table inbox.progress add column halted text;

create table inbox.offset_audit (
    id             bigint      generated always as identity primary key,
    consumer_group text        not null,
    topic          text        not null,
    partition      integer     not null,
    -- 'set' or 'resume'.
    action         text        not null constraint offset_audit_action check (action in ('set', 'resume')),
    -- The stored offset before and after.
    old_offset     bigint      not null,
    new_offset     bigint      not null,
    -- Who did it, and the reason given.
    done_by        text        not null,
    reason         text        not null,
    done_at        timestamptz not null default clock_timestamp()
);
