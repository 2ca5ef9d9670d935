-- What every batch does, as functions: their plans are made once for a session, by the settings that stand here, and not for each
-- batch. For small ones planning was a third of the server's work. Blocks are read and written one by one, each by its key: a plan
-- for all of them that was made while the table was empty would read it whole later.

-- Those of the blocks that exist, locked in the order in which they are given.
create function inbox.lock_blocks(of_group smallint, sources smallint[], lanes smallint[], blocks bigint[])
returns table (source_id smallint, lane smallint, block bigint, bits bytea)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    for place in 1 .. cardinality(blocks) loop
        select e.source_id, e.lane, e.block, e.bits into source_id, lane, block, bits
          from inbox.event_handled e
         where e.consumer_group = of_group
           and e.source_id = sources[place] and e.lane = lanes[place] and e.block = blocks[place]
           for update;
        if found then
            return next;
        end if;
    end loop;
end
$$;

-- The stored offset, locked; and if it is the expected one, or none is expected, what lock_blocks answers, one row each. Without
-- blocks one row; without a progress row none.
create function inbox.lock_batch(
    of_group smallint, of_topic text, of_partition integer, expected bigint,
    sources smallint[], lanes smallint[], blocks bigint[])
returns table (found_offset bigint, source_id smallint, lane smallint, block bigint, bits bytea)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    select p.next_offset into found_offset from inbox.progress p
     where p.consumer_group = of_group and p.topic = of_topic and p.partition = of_partition
       for update;
    if not found then
        return;
    end if;
    return next;
    if found_offset is distinct from coalesce(expected, found_offset) then
        return;
    end if;
    return query select found_offset, locked.* from inbox.lock_blocks(of_group, sources, lanes, blocks) locked;
end
$$;

-- Writes the bits of locked blocks; answers how many there were.
create function inbox.write_bits(
    of_group smallint, sources smallint[], lanes smallint[], blocks bigint[], merged bytea[])
returns bigint
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    written bigint := 0;
begin
    for place in 1 .. cardinality(blocks) loop
        update inbox.event_handled e set bits = merged[place]
         where e.consumer_group = of_group
           and e.source_id = sources[place] and e.lane = lanes[place] and e.block = blocks[place];
        if found then
            written := written + 1;
        end if;
    end loop;
    return written;
end
$$;
