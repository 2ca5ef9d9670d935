-- What keeps the commit that travels behind a batch's move of its offset from being reached. SQLSTATE IB001: the offset is not where it was
-- expected. lock_batch and finish_batch are called by processes of the version before; nothing else calls them any more.
create function inbox.refuse_move(of_topic text, of_partition integer, found bigint, expected bigint)
returns boolean
language plpgsql
as $$
begin
    raise exception 'the offset of % [%] is %, not %', of_topic, of_partition, found, expected using errcode = 'IB001';
end
$$;
