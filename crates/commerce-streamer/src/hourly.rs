//! Folds what batches have added to the hours into the counts by the hour.
//!
//! A batch adds one row with all that it counts (`metrics.hourly_addition`), and readers of `metrics.product_hour` see it at once. Folding
//! only keeps that table short: many additions to a product and hour become one update.

use std::num::NonZeroU32;
use std::time::Duration;

use runtime::database::Pool;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::metrics::{ADDITIONS, ADDITIONS_AGE, ADDITIONS_FOLDED};
use crate::rounds::{self, RoundError};
use crate::store::metrics::{fold_hours, measure_additions};

/// `[hourly]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HourlySettings {
    /// How often additions are folded.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Additions, of a batch each, that are folded in one transaction: it holds their products' rows.
    pub additions_max: NonZeroU32,
}

/// Folds until `shutdown`. Whatever fails is done by the next round: readers see the additions meanwhile.
pub(crate) async fn run(
    settings: HourlySettings,
    pool: Pool,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let round = || async {
        let folded = fold(settings.additions_max, &pool).await;
        // What waits matters most while it cannot be folded.
        if let Err(error) = measure(&pool).await {
            tracing::debug!(%error, "additions to the hours cannot be counted");
        }
        folded.map(drop)
    };
    rounds::run(settings.interval, shutdown, "additions to the hours", round).await
}

/// Folds what there is; answers how many additions that were.
async fn fold(additions_max: NonZeroU32, pool: &Pool) -> Result<u64, RoundError> {
    let mut connection = pool.get().await?;
    let mut sum = 0;
    loop {
        let folded = fold_hours(&mut connection, additions_max.get()).await?;
        metrics::counter!(ADDITIONS_FOLDED).increment(folded);
        sum += folded;
        if folded < u64::from(additions_max.get()) {
            return Ok(sum);
        }
    }
}

/// Tells how many additions wait, and for how long the oldest has; 0 seconds when there is none.
async fn measure(pool: &Pool) -> Result<(), RoundError> {
    let (waiting, oldest_seconds) = measure_additions(&mut *pool.get().await?).await?;
    metrics::gauge!(ADDITIONS).set(f64::from(i32::try_from(waiting).unwrap_or(i32::MAX)));
    metrics::gauge!(ADDITIONS_AGE).set(oldest_seconds);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use runtime::database::{self, DatabaseSettings, Pool};
    use sqlx::{Connection as _, PgConnection};
    use testkit::{TestDatabase, eventually};
    use tokio_util::sync::CancellationToken;

    use super::{HourlySettings, fold, measure, run};
    use crate::store::metrics::{Counts, Row, Tally, add_counts};

    /// Sums by product and hour: likes, units sold, their amount, views.
    type Hours = BTreeMap<(i64, i64), [i64; 4]>;

    fn row(product_id: i64, hour: i64, [likes, sales, amount, views]: [i64; 4]) -> Row {
        Row { product_id, hour: hour * 3_600, counts: Counts { likes, sales, amount, views } }
    }

    async fn database() -> anyhow::Result<(TestDatabase, Pool)> {
        let database = TestDatabase::create(&[crate::migrations()]).await?;
        let settings = DatabaseSettings {
            url: database.url().to_owned(),
            connections_max: 4,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
        };
        let pool = database::pool(&settings, "test")?;
        Ok((database, pool))
    }

    /// One batch in a transaction of its own.
    async fn add(connection: &mut PgConnection, rows: &[Row]) -> anyhow::Result<()> {
        let mut tx = connection.begin().await?;
        let tally = Tally { topic: "view-events", partition: 0, applied: &[] };
        add_counts(&mut tx, &[], rows, &tally).await?;
        Ok(tx.commit().await?)
    }

    async fn hours(connection: &mut PgConnection, from: &'static str) -> anyhow::Result<Hours> {
        let statement = format!(
            "select product_id, (extract(epoch from hour) / 3600)::bigint, sum(like_count)::bigint, sum(sales_count)::bigint,
                    sum(sales_amount)::bigint, sum(view_count)::bigint
               from {from} group by 1, 2"
        );
        let rows: Vec<(i64, i64, i64, i64, i64, i64)> =
            sqlx::query_as(sqlx::AssertSqlSafe(statement)).fetch_all(connection).await?;
        Ok(rows.into_iter().map(|row| ((row.0, row.1), [row.2, row.3, row.4, row.5])).collect())
    }

    async fn fold_all(additions_max: u32, pool: &Pool) -> anyhow::Result<u64> {
        fold(NonZeroU32::try_from(additions_max)?, pool).await.map_err(anyhow::Error::from_boxed)
    }

    const SEEN: &str = "metrics.product_hour";
    const FOLDED: &str = "metrics.product_metrics_hourly";

    #[tokio::test]
    async fn readers_see_an_addition_before_and_after_it_is_folded() -> anyhow::Result<()> {
        let (database, pool) = database().await?;
        let mut connection = database.connect().await?;
        add(&mut connection, &[row(1, 7, [1, 2, 300, 4]), row(1, 8, [0, 0, 0, 1])]).await?;
        add(&mut connection, &[row(1, 7, [-1, -1, -150, 1]), row(2, 7, [1, 0, 0, 0])]).await?;
        let expected =
            Hours::from([((1, 7), [0, 1, 150, 5]), ((1, 8), [0, 0, 0, 1]), ((2, 7), [1, 0, 0, 0])]);
        assert_eq!(hours(&mut connection, SEEN).await?, expected);
        assert_eq!(hours(&mut connection, FOLDED).await?, Hours::new());
        assert_eq!(fold_all(100, &pool).await?, 2);
        assert_eq!(hours(&mut connection, SEEN).await?, expected);
        assert_eq!(hours(&mut connection, FOLDED).await?, expected);
        // What is folded is counted on, and nothing is folded twice.
        add(&mut connection, &[row(1, 7, [5, 0, 0, 0])]).await?;
        assert_eq!(fold_all(100, &pool).await?, 1);
        assert_eq!(fold_all(100, &pool).await?, 0);
        assert_eq!(hours(&mut connection, FOLDED).await?[&(1, 7)], [5, 1, 150, 5]);
        database.drop_database().await
    }

    #[tokio::test]
    async fn one_transaction_folds_no_more_additions_than_the_limit() -> anyhow::Result<()> {
        let (database, pool) = database().await?;
        let mut connection = database.connect().await?;
        for hour in 0..5 {
            add(&mut connection, &[row(1, hour, [0, 0, 0, 1])]).await?;
        }
        let folded: i64 =
            sqlx::query_scalar("select metrics.fold_hours(2)").fetch_one(&mut connection).await?;
        assert_eq!(folded, 2);
        // The oldest go first.
        assert_eq!(hours(&mut connection, FOLDED).await?.into_keys().collect::<Vec<_>>(), [(1, 0), (1, 1)]);
        assert_eq!(fold_all(2, &pool).await?, 3);
        assert_eq!(hours(&mut connection, FOLDED).await?.len(), 5);
        database.drop_database().await
    }

    #[tokio::test]
    async fn additions_that_another_streamer_is_folding_keep_nobody_waiting() -> anyhow::Result<()> {
        let (database, pool) = database().await?;
        let mut connection = database.connect().await?;
        add(&mut connection, &[row(1, 1, [0, 0, 0, 1])]).await?;
        add(&mut connection, &[row(2, 1, [0, 0, 0, 1])]).await?;
        let mut other = connection.begin().await?;
        let folded: i64 = sqlx::query_scalar("select metrics.fold_hours(1)").fetch_one(&mut *other).await?;
        assert_eq!(folded, 1);
        // With a wait this would end by the statement's timeout.
        assert_eq!(fold_all(100, &pool).await?, 1);
        other.commit().await?;
        let expected = Hours::from([((1, 1), [0, 0, 0, 1]), ((2, 1), [0, 0, 0, 1])]);
        assert_eq!(hours(&mut connection, FOLDED).await?, expected);
        database.drop_database().await
    }

    #[tokio::test]
    async fn several_streamers_fold_beside_their_batches_and_lose_and_double_nothing() -> anyhow::Result<()> {
        const BATCHES: i64 = 200;
        let (database, pool) = database().await?;
        let stop = CancellationToken::new();
        let settings =
            HourlySettings { interval: Duration::from_millis(1), additions_max: NonZeroU32::try_from(3)? };
        let folding: Vec<_> =
            (0..3).map(|_| tokio::spawn(run(settings, pool.clone(), stop.clone()))).collect();
        let mut adding = Vec::new();
        for _ in 0..2 {
            let mut connection = database.connect().await?;
            adding.push(tokio::spawn(async move {
                for batch in 0..BATCHES {
                    // In another order each time: an addition locks no row of a product.
                    let mut rows: Vec<Row> = (1..=20).map(|product| row(product, 1, [1, 1, 10, 2])).collect();
                    rows.rotate_left(usize::try_from(batch % 20)?);
                    add(&mut connection, &rows).await?;
                }
                anyhow::Ok(())
            }));
        }
        let mut connection = database.connect().await?;
        for adding in adding {
            adding.await??;
        }
        let expected: Hours = (1..=20)
            .map(|product| ((product, 1), [2 * BATCHES, 2 * BATCHES, 20 * BATCHES, 4 * BATCHES]))
            .collect();
        assert_eq!(hours(&mut connection, SEEN).await?, expected);
        eventually("everything is folded", async || {
            Ok((hours(&mut connection, FOLDED).await? == expected).then_some(()))
        })
        .await?;
        stop.cancel();
        for folding in folding {
            folding.await??;
        }
        database.drop_database().await
    }

    #[tokio::test]
    async fn an_hour_beyond_what_can_be_stored_stays_at_its_end_and_holds_nothing_up() -> anyhow::Result<()> {
        let (database, pool) = database().await?;
        let mut connection = database.connect().await?;
        let most = i64::MAX - 1;
        // Two at once, and one more on what is stored; as much is taken back in another hour.
        add(&mut connection, &[row(1, 1, [0, 1, most, 0]), row(1, 2, [0, -1, -most, 0])]).await?;
        add(&mut connection, &[row(1, 1, [0, 1, most, 0]), row(1, 2, [0, -1, -most, 0])]).await?;
        assert_eq!(fold_all(100, &pool).await?, 2);
        add(&mut connection, &[row(1, 1, [0, 1, most, 0]), row(1, 2, [0, -1, -most, 0])]).await?;
        assert_eq!(fold_all(100, &pool).await?, 1);
        let expected = Hours::from([((1, 1), [0, 3, i64::MAX, 0]), ((1, 2), [0, -3, i64::MIN, 0])]);
        assert_eq!(hours(&mut connection, FOLDED).await?, expected);
        database.drop_database().await
    }

    #[tokio::test]
    async fn metrics_tell_of_additions_that_wait() -> anyhow::Result<()> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let rendered = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let metric = |name: &str| {
            let text = rendered.render();
            let line = text.lines().find(|line| line.split(' ').next() == Some(name));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        let (database, pool) = database().await?;
        let mut connection = database.connect().await?;
        add(&mut connection, &[row(1, 1, [0, 0, 0, 1])]).await?;
        add(&mut connection, &[row(1, 1, [0, 0, 0, 1])]).await?;
        let older = "update metrics.hourly_addition set added_at = now() - interval '1 hour' where id = 1";
        sqlx::raw_sql(older).execute(&mut connection).await?;
        measure(&pool).await.map_err(anyhow::Error::from_boxed)?;
        assert_eq!(metric("hourly_additions"), Some(2.0));
        assert!(metric("hourly_additions_oldest_age_seconds").is_some_and(|age| age >= 3600.0));
        fold_all(100, &pool).await?;
        measure(&pool).await.map_err(anyhow::Error::from_boxed)?;
        assert_eq!(metric("hourly_additions"), Some(0.0));
        assert_eq!(metric("hourly_additions_oldest_age_seconds"), Some(0.0));
        assert_eq!(metric("hourly_additions_folded_total"), Some(2.0));
        database.drop_database().await
    }
}
