-- The end of a batch as one function that fails where something is wrong, so that the commit can travel in the same message.

-- Writes the bits of locked blocks and moves the stored offset by compare-and-set. SQLSTATE IB001: the offset is not where it was expected.
-- IB002: blocks are missing.
create function inbox.finish_batch(
    of_group smallint, of_topic text, of_partition integer, expected bigint, next bigint,
    new_handled bigint, new_duplicates bigint, new_dead_lettered bigint, new_skipped bigint, by_owner text, now_halted text,
    sources smallint[], lanes smallint[], blocks bigint[], merged bytea[])
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    written bigint;
begin
    update inbox.progress p
       set next_offset = next, handled = p.handled + new_handled, duplicates = p.duplicates + new_duplicates,
           dead_lettered = p.dead_lettered + new_dead_lettered, skipped = p.skipped + new_skipped, owner = by_owner,
           halted = now_halted, updated_at = clock_timestamp()
     where p.consumer_group = of_group and p.topic = of_topic and p.partition = of_partition and p.next_offset = expected;
    if not found then
        raise exception 'the offset of % [%] is not %', of_topic, of_partition, expected using errcode = 'IB001';
    end if;
    if cardinality(blocks) = 0 then
        return;
    end if;
    written := inbox.write_bits(of_group, sources, lanes, blocks, merged);
    if written <> cardinality(blocks) then
        raise exception '% of % locked rows of inbox.event_handled', written, cardinality(blocks) using errcode = 'IB002';
    end if;
end
$$;
