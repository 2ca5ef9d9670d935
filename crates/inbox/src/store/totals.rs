//! Sums for those who check the promises.

use sqlx::PgConnection;

use crate::progress::{DeadLetterCount, GroupBalance, PartitionProgress};

/// Every partition of a group, by topic and partition.
pub(crate) async fn list_progress(
    connection: &mut PgConnection,
    group: Option<&str>,
) -> Result<Vec<PartitionProgress>, sqlx::Error> {
    sqlx::query_as(
        "select g.name as consumer_group, p.topic, p.partition, p.next_offset, p.first_offset, p.handled, p.duplicates,
                p.dead_lettered, p.skipped
           from inbox.progress p join inbox.consumer_group g on g.id = p.consumer_group
          where $1::text is null or g.name = $1
          order by 1, 2, 3",
    )
    .bind(group)
    .fetch_all(connection)
    .await
}

/// What the partitions of each group count as handled, beside what is remembered as handled.
pub(crate) async fn list_balances(
    connection: &mut PgConnection,
    group: Option<&str>,
) -> Result<Vec<GroupBalance>, sqlx::Error> {
    sqlx::query_as(
        "select g.name as consumer_group,
                -- What the offsets passed over.
                coalesce((select sum(handled) from inbox.progress where consumer_group = g.id), 0)::bigint as handled,
                -- Events remembered as bits.
                coalesce((select sum(bit_count(bits)) from inbox.event_handled where consumer_group = g.id), 0)::bigint
                    as bits,
                -- Events remembered by id.
                (select count(*) from inbox.event_handled_id where consumer_group = g.id) as ids,
                g.released, g.given_up,
                -- Events that were remembered and are not any more.
                g.forgotten_ids + coalesce(
                    (select sum(forgotten) from inbox.dedup_window where consumer_group = g.id), 0)::bigint as forgotten
           from inbox.consumer_group g
          where $1::text is null or g.name = $1
          order by 1",
    )
    .bind(group)
    .fetch_all(connection)
    .await
}

/// Dead letters of a group by topic, reason and status.
pub(crate) async fn count_dead_letters(
    connection: &mut PgConnection,
    group: Option<&str>,
) -> Result<Vec<DeadLetterCount>, sqlx::Error> {
    sqlx::query_as(
        "select consumer_group, topic, reason, status, count(*) as letters
           from inbox.dead_letter
          where $1::text is null or consumer_group = $1
          group by 1, 2, 3, 4
          order by 1, 2, 3, 4",
    )
    .bind(group)
    .fetch_all(connection)
    .await
}
