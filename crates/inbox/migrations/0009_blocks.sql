-- Blocks are locked, and written, by one statement each instead of one a block. They are still found one after the other, each by its key:
-- a lateral look with a lock or an offset is no join, and a plan for all of them that was made while the table was empty would read it
-- whole later.

-- Those of the blocks that exist, locked in the order in which they are given.
create or replace function inbox.lock_blocks(of_group smallint, sources smallint[], lanes smallint[], blocks bigint[])
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

-- Writes the bits of locked blocks; answers how many there were.
create or replace function inbox.write_bits(
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
