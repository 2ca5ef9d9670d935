//! Windows: where the next one ends, and its rows.

use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, PgConnection, Row};
use uuid::Uuid;

/// Where a window may end.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct NextEnd {
    /// A snapshot.
    pub(crate) snapshot: String,
    /// Seconds since it was taken.
    pub(crate) age_seconds: f64,
    /// Whether it is a tick, so that there is more behind it.
    pub(crate) is_tick: bool,
    /// The end of the log, which lies behind every commit that is visible; `None` when all of it is flushed.
    pub(crate) unflushed: Option<String>,
}

/// The first tick after `position`, else a snapshot taken now.
///
/// Whatever is visible in either is visible to every statement that starts later.
///
/// It also says how the connection plans from here on: of a busy second there are hundreds of small windows, for each of which
/// planning would take longer than reading, so that one plan serves them all. A window that ends at a tick is large: reading
/// it by a plan of its own is worth far more than planning costs.
pub(crate) async fn load_next_end(
    connection: &mut PgConnection,
    position: &str,
) -> Result<NextEnd, sqlx::Error> {
    sqlx::query_as(
        "select coalesce(tick.snapshot, pg_current_snapshot())::text as snapshot,
                coalesce(extract(epoch from clock_timestamp() - tick.taken_at), 0)::float8 as age_seconds,
                tick.snapshot is not null as is_tick,
                nullif(log.written, least(log.written, log.flushed))::text as unflushed,
                set_config('plan_cache_mode',
                           case when tick.snapshot is null then 'force_generic_plan' else 'force_custom_plan' end, false)
           from (select pg_current_wal_insert_lsn() as written, pg_current_wal_flush_lsn() as flushed) as log
           left join lateral (
                select snapshot, taken_at from outbox.tick
                 where pg_snapshot_xmax(snapshot) > pg_snapshot_xmax($1::text::pg_snapshot)
                 order by pg_snapshot_xmax(snapshot), id
                 limit 1) as tick on true",
    )
    .bind(position)
    .fetch_one(connection)
    .await
}

/// Whether the server has flushed its log up to `end`.
pub(crate) async fn is_flushed(connection: &mut PgConnection, end: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_current_wal_flush_lsn() >= $1::text::pg_lsn")
        .bind(end)
        .fetch_one(connection)
        .await
}

/// Flushes all that the log holds now, by a transaction that commits a record of its own; needs a connection whose
/// commits wait for the disk.
pub(crate) async fn flush_log(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_logical_emit_message(true, 'outbox', '')").execute(connection).await?;
    Ok(())
}

/// What a window's rows are chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WindowBounds {
    /// Lowest transaction that had not begun in the first snapshot.
    pub(crate) first_txid: String,
    /// Lowest transaction that had not begun in the last snapshot.
    pub(crate) end_txid: String,
    /// Transactions that ran in the first snapshot.
    pub(crate) running: Vec<String>,
    /// The last snapshot.
    pub(crate) end: String,
    /// Shards to read.
    pub(crate) shards: Vec<i16>,
    /// Nothing may be sent before the server's log is flushed up to here.
    pub(crate) unflushed: Option<String>,
}

/// What is published of an event, in the order of [`StoredEvent::from_row`].
macro_rules! sent_columns {
    () => {
        "id, event_id, system_identifier, timeline, event_type, topic, partition_key, payload, headers, traceparent,
         occurred_at"
    };
}

/// All of an event, by name for [`WholeEvent`]; what is published comes first.
macro_rules! whole_columns {
    () => {
        concat!(sent_columns!(), ", shard, aggregate_type, aggregate_id, aggregate_version")
    };
}
pub(crate) use {sent_columns, whole_columns};

/// Two ranges of the one index: transactions that began after the first snapshot, and those that ran in it. Neither
/// is bounded by the oldest running transaction, so that one left open for hours costs nothing.
macro_rules! window_rows {
    ($columns:expr, $end:literal) => {
        concat!(
            "select ",
            $columns,
            ", (select pg_current_wal_flush_lsn() >= $7::text::pg_lsn) as is_flushed
               from (select ",
            $columns,
            "
                       from outbox.event
                      where txid >= $1::text::xid8 and txid < $2::text::xid8
                        and shard = any($5::smallint[]) and id > $6
                        and pg_visible_in_snapshot(txid, (select $4::text::pg_snapshot))
                     union all
                     select ",
            $columns,
            "
                       from outbox.event
                      where txid = any($3::text[]::xid8[])
                        and shard = any($5::smallint[]) and id > $6
                        and pg_visible_in_snapshot(txid, (select $4::text::pg_snapshot))) as in_window
              order by id",
            $end
        )
    };
}

/// Which rows and columns of a window are read. More than what is published is read only when rows may be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowRead {
    /// What is published of every row.
    Sent,
    /// All columns of every row.
    Whole,
    /// All columns of the first rows, this many at most.
    Page(i64),
}

const SENT_ROWS: &str = window_rows!(sent_columns!(), "");
const WHOLE_ROWS: &str = window_rows!(whole_columns!(), "");
const WHOLE_PAGE: &str = window_rows!(whole_columns!(), " limit $8");

/// The rows of a window behind `after_id`, in order; the server sends as fast as they are taken.
pub(crate) fn stream_window<'c>(
    connection: &'c mut PgConnection,
    bounds: &WindowBounds,
    after_id: i64,
    read: WindowRead,
) -> BoxStream<'c, Result<PgRow, sqlx::Error>> {
    let (statement, limit) = match read {
        WindowRead::Sent => (SENT_ROWS, None),
        WindowRead::Whole => (WHOLE_ROWS, None),
        WindowRead::Page(limit) => (WHOLE_PAGE, Some(limit)),
    };
    let query = sqlx::query(statement)
        .bind(bounds.first_txid.clone())
        .bind(bounds.end_txid.clone())
        .bind(bounds.running.clone())
        .bind(bounds.end.clone())
        .bind(bounds.shards.clone())
        .bind(after_id)
        .bind(bounds.unflushed.clone());
    match limit {
        Some(limit) => query.bind(limit).fetch(connection),
        None => query.fetch(connection),
    }
}

/// Whether the row, any of its window, was read when the log was flushed: up to its [`WindowBounds::unflushed`]. The question
/// travels with the rows because the answer has mostly become yes since their window's end was asked for.
pub(crate) fn was_flushed(row: &PgRow) -> Result<bool, sqlx::Error> {
    let is_flushed: Option<bool> = row.try_get("is_flushed")?;
    Ok(is_flushed.unwrap_or(true))
}

/// A server and its timeline: within one, an id is handed out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct History {
    pub(crate) system_identifier: i64,
    pub(crate) timeline: i32,
}

/// One event as stored, borrowed from its row.
#[derive(Debug)]
pub(crate) struct StoredEvent<'r> {
    pub(crate) id: i64,
    pub(crate) event_id: Uuid,
    /// The history in which the id was handed out.
    pub(crate) history: History,
    pub(crate) event_type: &'r str,
    pub(crate) topic: &'r str,
    pub(crate) partition_key: &'r str,
    pub(crate) payload: Option<&'r [u8]>,
    pub(crate) headers: Option<&'r [u8]>,
    pub(crate) traceparent: Option<&'r str>,
    pub(crate) occurred_at: DateTime<Utc>,
}

impl<'r> StoredEvent<'r> {
    /// Reads the columns of [`stream_window`]. Unchecked is the comparison of types, column by column and row by row: the
    /// statement says what they are, and a test reads every one.
    pub(crate) fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get_unchecked(0)?,
            event_id: row.try_get_unchecked(1)?,
            history: History {
                system_identifier: row.try_get_unchecked(2)?,
                timeline: row.try_get_unchecked(3)?,
            },
            event_type: row.try_get_unchecked(4)?,
            topic: row.try_get_unchecked(5)?,
            partition_key: row.try_get_unchecked(6)?,
            payload: row.try_get_unchecked(7)?,
            headers: row.try_get_unchecked(8)?,
            traceparent: row.try_get_unchecked(9)?,
            occurred_at: row.try_get_unchecked(10)?,
        })
    }

    /// Bytes that the event brings into the producer's queue.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.map_or(0, <[u8]>::len) + self.headers.map_or(0, <[u8]>::len) + self.partition_key.len()
    }
}

/// All of an event, to be kept while its row is long gone.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct WholeEvent {
    pub(crate) shard: i16,
    pub(crate) id: i64,
    pub(crate) event_id: Uuid,
    #[sqlx(flatten)]
    pub(crate) history: History,
    pub(crate) event_type: String,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) aggregate_version: Option<i64>,
    pub(crate) topic: String,
    pub(crate) partition_key: String,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Option<Vec<u8>>,
    pub(crate) traceparent: Option<String>,
    pub(crate) occurred_at: DateTime<Utc>,
}

impl WholeEvent {
    /// What is published of it.
    pub(crate) fn stored(&self) -> StoredEvent<'_> {
        StoredEvent {
            id: self.id,
            event_id: self.event_id,
            history: self.history,
            event_type: &self.event_type,
            topic: &self.topic,
            partition_key: &self.partition_key,
            payload: self.payload.as_deref(),
            headers: self.headers.as_deref(),
            traceparent: self.traceparent.as_deref(),
            occurred_at: self.occurred_at,
        }
    }
}

/// Settings of a connection that reads windows. Plans must not depend on statistics, because a table that was just
/// filled has none. Workers would compete with the relay and the broker for the same cores. The window of a busy second
/// is sorted in memory.
const READER_OPTIONS: [(&str, &str); 4] = [
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("work_mem", "256MB"),
];

/// A connection for reading windows.
pub(crate) async fn connect_reader(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    options
        .clone()
        .application_name("outbox-relay")
        .options(READER_OPTIONS)
        .disable_statement_logging()
        .connect()
        .await
}

/// A connection that waits for the log to be flushed. Its commits wait for the disk, whatever the default is.
pub(crate) async fn connect_flusher(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    options
        .clone()
        .application_name("outbox-relay-flush")
        .options([("synchronous_commit", "local")])
        .disable_statement_logging()
        .connect()
        .await
}

/// A connection for leases and positions. A position that is lost with the server's last moments only means that some
/// events are sent again, so its commits need not wait for the disk.
pub(crate) async fn connect_keeper(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    options
        .clone()
        .application_name("outbox-relay-positions")
        .options([("synchronous_commit", "off")])
        .disable_statement_logging()
        .connect()
        .await
}

#[cfg(test)]
mod tests {
    use sqlx::PgConnection;
    use testkit::TestDatabase;

    use super::{connect_reader, load_next_end};
    use crate::store::tick::take_tick;

    async fn plans(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
        sqlx::query_scalar("show plan_cache_mode").fetch_one(connection).await
    }

    #[tokio::test]
    async fn small_windows_share_a_plan_and_the_large_ones_of_ticks_do_not() -> anyhow::Result<()> {
        let database = TestDatabase::create(&[crate::migrations()]).await?;
        let mut reader = connect_reader(&database.options()).await?;
        let position: String =
            sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut reader).await?;
        assert!(!load_next_end(&mut reader, &position).await?.is_tick);
        assert_eq!(plans(&mut reader).await?, "force_generic_plan");
        let mut ticker = database.connect().await?;
        sqlx::query("select pg_current_xact_id()").execute(&mut ticker).await?;
        assert!(take_tick(&mut ticker, std::time::Duration::ZERO).await?);
        let end = load_next_end(&mut reader, &position).await?;
        assert!(end.is_tick);
        assert_eq!(plans(&mut reader).await?, "force_custom_plan");
        assert!(!load_next_end(&mut reader, &end.snapshot).await?.is_tick);
        assert_eq!(plans(&mut reader).await?, "force_generic_plan");
        Ok(())
    }
}
