//! Stored offsets as operators see and change them.

use sqlx::PgConnection;

use crate::offsets::{OffsetTarget, Operator, StoredOffset};

/// Offsets of all groups, or of one, by group, topic and partition.
pub(crate) async fn list_offsets(
    connection: &mut PgConnection,
    consumer_group: Option<&str>,
) -> Result<Vec<StoredOffset>, sqlx::Error> {
    sqlx::query_as(
        "select g.name as consumer_group, p.topic, p.partition, p.next_offset, p.topic_id, p.halted, p.owner, p.updated_at
           from inbox.progress p
           join inbox.consumer_group g on g.id = p.consumer_group
          where $1::text is null or g.name = $1
          order by g.name, p.topic, p.partition",
    )
    .bind(consumer_group)
    .fetch_all(connection)
    .await
}

/// One offset; its row stays locked to the end of the transaction.
pub(crate) async fn lock_offset(
    tx: &mut PgConnection,
    target: &OffsetTarget,
) -> Result<Option<StoredOffset>, sqlx::Error> {
    sqlx::query_as(
        "select g.name as consumer_group, p.topic, p.partition, p.next_offset, p.topic_id, p.halted, p.owner, p.updated_at
           from inbox.progress p
           join inbox.consumer_group g on g.id = p.consumer_group
          where g.name = $1 and p.topic = $2 and p.partition = $3
            for update of p",
    )
    .bind(&target.consumer_group)
    .bind(&target.topic)
    .bind(target.partition)
    .fetch_optional(tx)
    .await
}

/// Moves a locked offset and clears why it was halted. Forward, the offsets between count as skipped; back, the group is
/// as if it had begun so much earlier. With `forget_topic` the next assignment takes over the topic that it finds.
pub(crate) async fn update_offset(
    tx: &mut PgConnection,
    target: &OffsetTarget,
    offset: i64,
    forget_topic: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.progress p
            set next_offset  = $4,
                skipped      = p.skipped + greatest($4 - p.next_offset, 0),
                first_offset = p.first_offset - greatest(p.next_offset - $4, 0),
                halted       = null,
                topic_id     = case when $5 then null else p.topic_id end,
                updated_at   = clock_timestamp()
           from inbox.consumer_group g
          where g.id = p.consumer_group and g.name = $1 and p.topic = $2 and p.partition = $3",
    )
    .bind(&target.consumer_group)
    .bind(&target.topic)
    .bind(target.partition)
    .bind(offset)
    .bind(forget_topic)
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn insert_audit(
    tx: &mut PgConnection,
    before: &StoredOffset,
    offset: i64,
    action: &str,
    operator: &Operator,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into inbox.offset_audit
                (consumer_group, topic, partition, action, old_offset, new_offset, done_by, reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&before.consumer_group)
    .bind(&before.topic)
    .bind(before.partition)
    .bind(action)
    .bind(before.next_offset)
    .bind(offset)
    .bind(&operator.by)
    .bind(&operator.reason)
    .execute(tx)
    .await?;
    Ok(())
}
