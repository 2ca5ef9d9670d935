-- The history of an event is a default of its row, asked of the server once in a session.

-- Asks the server for its history (`outbox.current_history`) and keeps it in two settings of the session. They are true for as
-- long as the session lives: a server learns a new timeline only by a restart or by its promotion, and before its promotion
-- the question fails. If the transaction rolls back, the settings do too, and the next append asks again.
create function outbox.learn_history(out system_identifier bigint, out timeline integer)
language plpgsql volatile as $$
begin
    select h.system_identifier, h.timeline into system_identifier, timeline from outbox.current_history() h;
    perform set_config('outbox.system_identifier', system_identifier::text, false),
            set_config('outbox.timeline', timeline::text, false);
end
$$;

-- Expressions and not functions: they are evaluated for each row.
alter table outbox.event
    alter column system_identifier set default coalesce(
        nullif(current_setting('outbox.system_identifier', true), '')::bigint,
        (outbox.learn_history()).system_identifier),
    alter column timeline set default coalesce(
        nullif(current_setting('outbox.timeline', true), '')::integer,
        (outbox.learn_history()).timeline);
