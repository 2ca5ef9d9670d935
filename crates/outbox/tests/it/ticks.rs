//! The ticker.

use anyhow::Result;
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;

#[tokio::test]
async fn many_tickers_take_about_one_tick_in_an_interval() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let stop = CancellationToken::new();
    let settings = outbox::TickerSettings::default();
    let tickers: Vec<_> = (0..8)
        .map(|_| tokio::spawn(outbox::ticker::run(settings, fixture.database.options(), stop.clone())))
        .collect();
    eventually("three ticks are taken", async || {
        let ticks: i64 =
            sqlx::query_scalar("select count(*) from outbox.tick").fetch_one(&mut connection).await?;
        Ok((ticks >= 3).then_some(()))
    })
    .await?;
    stop.cancel();
    for ticker in tickers {
        ticker.await?;
    }
    let shortest: f64 = sqlx::query_scalar(
        "select min(extract(epoch from gap))::float8
           from (select taken_at - lag(taken_at) over (order by id) as gap from outbox.tick) gaps",
    )
    .fetch_one(&mut connection)
    .await?;
    assert!(shortest >= 0.9, "{shortest} s between two ticks");
    fixture.remove().await
}

#[tokio::test]
async fn ticks_behind_every_position_are_pruned() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    for _ in 0..10 {
        fixture.append(&mut connection, &fixture.events(2, 2)).await?;
        assert!(outbox::ticker::tick_now(&mut connection).await?);
    }
    let mut settings = fixture.settings("a");
    settings.lease = std::time::Duration::from_millis(600);
    let relay = fixture.relay_with(settings);
    eventually("only the last tick is left", async || {
        let ticks: i64 =
            sqlx::query_scalar("select count(*) from outbox.tick").fetch_one(&mut connection).await?;
        Ok((ticks == 1).then_some(()))
    })
    .await?;
    fixture.settled().await?;
    assert_eq!(fixture.found().await?.len(), 20);
    relay.stop().await?;
    fixture.remove().await
}
