-- Dead letters that can be brought back: the lives of one event, what a row lacks of its record, who did what and why.

alter table inbox.dead_letter
    -- The first letter of the same event, if this one is a redriven record that failed again. It may not exist: another
    -- consumer group's redrive brings a record to every group.
    add column first_id uuid,
    -- What the row lacks of the record (for example "value", "key, headers"); such a letter cannot be redriven. Null: nothing.
    add column lacks    text;

update inbox.dead_letter
   set lacks = case when reason = 'unreadable_headers' then 'headers' else 'value' end
 where value_bytes > octet_length(value) or reason = 'unreadable_headers';

-- Pages of operators' actions: letters of one partition in the order of their offsets, groups of one record side by side.
create index dead_letter_place on inbox.dead_letter (topic, partition, "offset", consumer_group);
-- Depth and age of what waits for an operator.
create index dead_letter_open on inbox.dead_letter (consumer_group, status, first_seen) where status in ('new', 'published');
-- The newest letter of a cause.
create index dead_letter_cause on inbox.dead_letter (fingerprint, last_seen);
-- All lives of an event.
create index dead_letter_lives on inbox.dead_letter (first_id) where first_id is not null;

-- One row for each change that an operator made to a letter, written in the transaction of the change; never changed.
create table inbox.dead_letter_audit (
    id             bigint      generated always as identity primary key,
    -- All letters of one call share it.
    operation_id   uuid        not null,
    -- When, by the database's clock.
    acted_at       timestamptz not null default clock_timestamp(),
    -- Who, as he called himself.
    actor          text        not null constraint dead_letter_audit_actor check (actor <> ''),
    -- What.
    action         text        not null constraint dead_letter_audit_action check (action in ('redrive', 'discard')),
    -- Why, in his words.
    reason         text        not null constraint dead_letter_audit_reason check (reason <> ''),
    -- Which letter; no foreign key, so that the audit may outlive it.
    dead_letter_id uuid        not null,
    -- Its status before the change.
    status_before  text        not null,
    -- How often it has been redriven after the change, its earlier lives included.
    redrive_count  integer     not null
);
create index dead_letter_audit_letter on inbox.dead_letter_audit (dead_letter_id);
