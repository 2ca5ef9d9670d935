//! Brokers and databases that are away for a while.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use testkit::{eventually, eventually_within};

use crate::fixture::{Fixture, RunningRelay, ensure_ordered, without_resends};
use crate::proxy::{Line, Proxy};

fn broker_proxy(fixture: &Fixture) -> Result<Proxy> {
    let target: SocketAddr = fixture.brokers().parse()?;
    Proxy::start(target)
}

fn database_proxy(fixture: &Fixture) -> Result<(Proxy, PgConnectOptions)> {
    let direct = fixture.database.options();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], direct.get_port())))?;
    let through = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(proxy.port)
        .username(direct.get_username())
        .database(direct.get_database().unwrap_or_default())
        .disable_statement_logging();
    Ok((proxy, through))
}

async fn open_window_statements(connection: &mut PgConnection) -> Result<i64> {
    let open = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
          where datname = current_database() and application_name = 'outbox-relay' and state = 'active'",
    );
    Ok(open.fetch_one(connection).await?)
}

#[tokio::test]
async fn events_wait_out_a_broker_outage_in_order_without_holding_the_database() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let proxy = broker_proxy(&fixture)?;
    let mut settings = fixture.settings("a");
    settings.producer.client.brokers = format!("127.0.0.1:{}", proxy.port);
    settings.batch_events_max = 100;
    settings.in_flight_events_max = 1_000;
    let relay = fixture.relay_with(settings);
    fixture.append(&mut connection, &fixture.events(10, 5)).await?;
    fixture.found_at_least(10).await?;

    proxy.set(Line::Cut);
    let mut events = fixture.events(20_000, 50);
    for event in &mut events {
        // Far more than sockets hold, so that the statement cannot end by itself.
        event.headers.push(("fill".to_owned(), vec![b'x'; 1_000]));
    }
    for chunk in events.chunks(1_000) {
        fixture.append(&mut connection, chunk).await?;
    }
    let status = &relay.status;
    eventually("as much is in flight as may be", async || Ok((status.in_flight() >= 900).then_some(())))
        .await?;
    eventually("no statement of the relay stays open", async || {
        Ok((open_window_statements(&mut connection).await? == 0).then_some(()))
    })
    .await?;
    eventually("the lag shows", async || Ok(status.lag().filter(|lag| *lag > Duration::from_secs(2))))
        .await?;
    assert_eq!(fixture.found().await?.len(), 10);
    assert!(status.in_flight() <= 1_000);

    proxy.set(Line::Up);
    fixture.settled().await?;
    let found = fixture.found().await?;
    assert_eq!(found.len(), 20_010, "an outage alone makes no resend");
    let records: Vec<_> = without_resends(&found)?;
    ensure_ordered(
        &records.into_iter().filter(|record| record.headers.contains_key("fill")).collect::<Vec<_>>(),
    )?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_relay_comes_back_by_itself_when_the_database_does() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let (proxy, through) = database_proxy(&fixture)?;
    let relay = RunningRelay::start(fixture.settings("a"), through, None);
    fixture.append(&mut connection, &fixture.events(10, 5)).await?;
    fixture.settled().await?;
    proxy.set(Line::Cut);
    eventually("the failure shows", async || Ok(relay.status.failure())).await?;
    assert!(!relay.status.is_connected());
    fixture.append(&mut connection, &fixture.events(10, 5)).await?;
    proxy.set(Line::Up);
    fixture.settled().await?;
    assert_eq!(without_resends(&fixture.found().await?)?.len(), 20);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_relay_that_cannot_reach_the_database_gives_up_its_shards_to_another() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let (proxy, through) = database_proxy(&fixture)?;
    let mut settings = fixture.settings("frozen");
    settings.lease = Duration::from_secs(1);
    let frozen = RunningRelay::start(settings, through, None);
    fixture.append(&mut connection, &fixture.events(10, 5)).await?;
    fixture.settled().await?;
    proxy.set(Line::Frozen);
    let mut settings = fixture.settings("other");
    settings.lease = Duration::from_secs(1);
    let other = fixture.relay_with(settings);
    let shards = || async { Ok((other.status.shards() == 16).then_some(())) };
    eventually("the other relay takes over", shards).await?;
    // By its lease, long before its reader gives up a poll.
    let notices = async || Ok((!frozen.status.is_connected()).then_some(()));
    eventually_within(Duration::from_secs(20), "the frozen one notices", notices).await?;
    fixture.append(&mut connection, &fixture.events(10, 5)).await?;
    fixture.settled().await?;
    proxy.set(Line::Up);
    let standing_by =
        async || Ok((frozen.status.is_connected() && frozen.status.shards() == 0).then_some(()));
    eventually_within(Duration::from_secs(90), "the thawed one stands by", standing_by).await?;
    let owners: Vec<String> =
        sqlx::query_scalar("select distinct owner from outbox.shard").fetch_all(&mut connection).await?;
    assert_eq!(owners, ["other"]);
    other.stop().await?;
    frozen.stop().await?;
    fixture.remove().await
}

/// No test lasts so long: whoever takes shards over was handed them.
const ENDLESS: Duration = Duration::from_secs(3_600);

/// A relay that owns every shard under an endless lease, and waits after a failure. Its database is away.
async fn relay_in_backoff(fixture: &Fixture) -> Result<(Proxy, RunningRelay)> {
    let (proxy, through) = database_proxy(fixture)?;
    let mut settings = fixture.settings("first");
    settings.lease = ENDLESS;
    let relay = RunningRelay::start(settings, through, None);
    eventually("it owns every shard", async || Ok((relay.status.shards() == 16).then_some(()))).await?;
    proxy.set(Line::Cut);
    eventually("its session has failed", async || Ok((!relay.status.is_connected()).then_some(()))).await?;
    Ok((proxy, relay))
}

#[tokio::test]
async fn a_relay_stopped_while_it_waits_after_a_failure_hands_its_shards_to_the_others() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let (proxy, relay) = relay_in_backoff(&fixture).await?;
    fixture.append(&mut connection, &fixture.events(10, 5)).await?;
    proxy.set(Line::Up);
    relay.stop().await?;
    let mut settings = fixture.settings("second");
    settings.lease = ENDLESS;
    let second = fixture.relay_with(settings);
    eventually(
        "the next owner waits for no lease",
        async || Ok((second.status.shards() == 16).then_some(())),
    )
    .await?;
    fixture.settled().await?;
    assert_eq!(second.status.members(), 1, "who has left has no share");
    second.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_relay_stopped_while_it_waits_hands_back_nothing_that_it_has_lost() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let (proxy, relay) = relay_in_backoff(&fixture).await?;
    let claim = "update outbox.shard set owner = 'other', epoch = epoch + 1";
    sqlx::query(claim).execute(&mut connection).await?;
    proxy.set(Line::Up);
    relay.stop().await?;
    let owned = "select count(*) from outbox.shard where owner = 'other' and lease_until > clock_timestamp()";
    let owned: i64 = sqlx::query_scalar(owned).fetch_one(&mut connection).await?;
    assert_eq!(owned, 16);
    fixture.remove().await
}

#[tokio::test]
async fn a_relay_stopped_while_the_database_is_away_ends_all_the_same() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (proxy, relay) = relay_in_backoff(&fixture).await?;
    proxy.set(Line::Frozen);
    relay.stop().await?;
    drop(proxy);
    fixture.remove().await
}

#[tokio::test]
async fn events_wait_for_a_topic_that_is_not_there_and_flow_when_it_is_created() -> Result<()> {
    let mut fixture = Fixture::new().await?;
    fixture.topic.push_str("-later");
    let mut connection = fixture.database.connect().await?;
    fixture.append(&mut connection, &fixture.events(100, 10)).await?;
    let mut settings = fixture.settings("a");
    // The client believes in a missing topic for half a minute by default.
    let patience = ("topic.metadata.propagation.max.ms".to_owned(), "200".to_owned());
    settings.producer.client.options.extend([patience]);
    let relay = fixture.relay_with(settings);
    let failure = eventually("the failure shows", async || Ok(relay.status.failure())).await?;
    assert!(failure.contains("topic"), "{failure}");
    let again = async || {
        let epoch: i64 =
            sqlx::query_scalar("select max(epoch) from outbox.shard").fetch_one(&mut connection).await?;
        Ok((epoch >= 3).then_some(()))
    };
    eventually("the relay begins again", again).await?;
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 100, "every row stays");
    let parked = outbox::parked::count(&mut connection).await?;
    assert!(parked.is_empty(), "{parked:?}");
    fixture.create_topic().await?;
    fixture.settled().await?;
    let found = fixture.found().await?;
    let records = without_resends(&found)?;
    assert_eq!(records.len(), 100);
    ensure_ordered(&records)?;
    eventually("it has recovered", async || Ok(relay.status.failure().is_none().then_some(()))).await?;
    relay.stop().await?;
    fixture.remove().await
}
