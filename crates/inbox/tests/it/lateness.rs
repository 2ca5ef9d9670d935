//! How late the consumer is, as its metrics tell.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use testkit::eventually;

use crate::fixture::{Fixture, Record};

/// One recorder for all tests of this binary; each has a group of its own.
static METRICS: LazyLock<PrometheusHandle> = LazyLock::new(|| {
    PrometheusBuilder::new().install_recorder().expect("no other test of this binary installs one")
});

/// Sum of the metric's values of a group.
fn metric(name: &str, group: &str) -> Option<f64> {
    let (name, group) = (format!("{name}{{"), format!("group=\"{group}\""));
    let text = METRICS.render();
    let lines = text.lines().filter(|line| line.starts_with(&name) && line.contains(&group));
    let values: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What the fixture stamps its records with.
const STAMP: f64 = 1_700_000_000.0;
const OCCURRED: (f64, &[u8]) = (1_600_000_000.0, b"2020-09-13T12:26:40Z");

#[tokio::test]
async fn a_record_that_is_not_handled_grows_older_whether_it_is_tried_again_or_stopped() -> Result<()> {
    LazyLock::force(&METRICS);
    let fixture = Fixture::new(1).await?;
    let group = fixture.group();
    let mut settings = fixture.settings();
    settings.transaction_timeout = Duration::from_secs(1);
    let running = fixture.start_with(settings, fixture.database.options());
    running.effects.is_frozen.store(true, Ordering::SeqCst);
    let begun = now();
    fixture.produce(&[Record::event(0, 1, "e1").with("ce_time", OCCURRED.1)]).await?;
    let lag = || metric("inbox_lag_seconds", &group);
    eventually("the batch is tried again", async || {
        Ok(running.status.partitions().iter().any(|found| found.retrying.is_some()).then_some(()))
    })
    .await?;
    let seen = eventually("its age is told", async || Ok(lag().filter(|age| *age >= begun - STAMP))).await?;
    eventually("its age grows", async || Ok(lag().filter(|age| *age > seen).map(|_| ()))).await?;
    assert_eq!(metric("inbox_visible_seconds_count", &group), None);

    running.effects.is_frozen.store(false, Ordering::SeqCst);
    fixture.passed(1).await?;
    eventually("nothing waits", async || Ok(lag().filter(|age| *age == 0.0).map(|_| ()))).await?;
    assert_eq!(metric("inbox_visible_seconds_count", &group), Some(1.0));
    let visible = metric("inbox_visible_seconds_sum", &group).unwrap_or_default();
    assert!((begun - OCCURRED.0..=now() - OCCURRED.0).contains(&visible), "{visible}");
    // A duplicate makes nothing visible.
    fixture.produce(&[Record::event(0, 1, "e1")]).await?;
    fixture.passed(2).await?;
    assert_eq!(metric("inbox_visible_seconds_count", &group), Some(1.0));

    // A stopped partition, with nothing that anybody would have seen coming.
    let mut connection = fixture.database.connect().await?;
    sqlx::query("delete from inbox.progress where topic = $1")
        .bind(&fixture.topic)
        .execute(&mut connection)
        .await?;
    fixture.produce(&[Record::event(0, 2, "e2")]).await?;
    eventually("it is stopped", async || {
        Ok(running.status.partitions().iter().any(|found| found.stopped.is_some()).then_some(()))
    })
    .await?;
    let seen = eventually("its age is told", async || Ok(lag().filter(|age| *age >= begun - STAMP))).await?;
    eventually("its age grows", async || Ok(lag().filter(|age| *age > seen).map(|_| ()))).await?;
    running.stop().await?;
    // Without its row the sums cannot agree: the fixture's own check is left out.
    fixture.admin.delete_topics(&[&fixture.topic]).await?;
    fixture.database.drop_database().await
}
