-- What every batch does, as functions: their plans are made once for a session, by the settings that stand here, and not for each
-- batch. For small ones planning was a third of the server's work. Blocks are found one after the other, each by its key (a lateral
-- look with a lock or an offset is no join): a plan for all of them that was made while the table was empty would read it whole later.

-- Those of the blocks that exist, locked in the order in which they are given.
create function inbox.lock_blocks(of_group smallint, sources smallint[], lanes smallint[], blocks bigint[])
returns table (source_id smallint, lane smallint, block bigint, bits bytea)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    return query
    select e.source_id, e.lane, e.block, e.bits
      from unnest(sources, lanes, blocks) as wanted (source_id, lane, block)
     cross join lateral (
           select h.* from inbox.event_handled h
            where h.consumer_group = of_group and h.source_id = wanted.source_id and h.lane = wanted.lane
              and h.block = wanted.block
              for update) as e;
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
set enable_memoize = off
as $$
declare
    written bigint;
begin
    update inbox.event_handled e set bits = found.bits
      from (select h.ctid as place, wanted.bits
              from unnest(sources, lanes, blocks, merged) as wanted (source_id, lane, block, bits)
             cross join lateral (
                   select h.ctid from inbox.event_handled h
                    where h.consumer_group = of_group and h.source_id = wanted.source_id and h.lane = wanted.lane
                      and h.block = wanted.block
                   offset 0) as h
           ) as found
     where e.ctid = found.place;
    get diagnostics written = row_count;
    return written;
end
$$;
