//! What an event costs its writer: the same transaction with and without it, in turn.

use std::time::{Duration, Instant};

use anyhow::Result;
use outbox::AppendLimits;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::backlog::view;
use crate::ceilings::rate;
use crate::drain::TOPIC;
use crate::figures::Figures;
use crate::pipeline::Pipeline;

/// Length of one turn of a side.
const TURN: Duration = Duration::from_secs(4);
/// Turns of each side.
const TURNS: usize = 4;
/// Products whose stock is taken: so many that clients seldom meet.
const PRODUCTS: i64 = 10_000;

/// An order as shops place it: stock is locked and taken, the order and its lines are written.
const SCHEMA: &str = "
    create schema bench;
    create table bench.stock (product bigint primary key, quantity bigint not null) with (fillfactor = 50);
    create table bench.purchase (id bigint generated always as identity primary key, buyer bigint not null,
                                 amount numeric(12, 2) not null, placed_at timestamptz not null default now());
    create table bench.line (purchase bigint not null, product bigint not null, quantity integer not null,
                             price numeric(12, 2) not null, primary key (purchase, product));
    create table bench.event (topic text not null, key text not null, payload bytea not null);
    insert into bench.stock select generate_series(0, 9999), 1000000;
    analyze bench.stock;
";

/// What a transaction does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Nothing,
    /// A statement that does nothing: what one more of any kind costs at the least.
    Asks,
    /// The event's payload goes into a table without index, order or history: what one more insert costs.
    Inserts,
    Appends,
}

/// The order of the figures.
const SIDES: [Side; 4] = [Side::Nothing, Side::Asks, Side::Inserts, Side::Appends];

pub(super) async fn once(clients: usize, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    sqlx::raw_sql(SCHEMA).execute(&mut pipeline.connect().await?).await?;
    // A pool's connections are old: what a new one costs the server is none of an event's.
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(pipeline.connect().await?);
    }
    // The first turn of each side warms caches and is not counted.
    let mut transactions = [0; SIDES.len()];
    for turn in 0..=TURNS {
        let mut sides: [usize; SIDES.len()] = std::array::from_fn(|side| side);
        // Forth and back, so that no side always follows the same other.
        if turn % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            let done = write(&mut connections, SIDES[side], &pipeline.topic(TOPIC)).await?;
            if turn > 0 {
                transactions[side] += done;
            }
        }
    }
    let length = TURN * u32::try_from(TURNS)?;
    let [without, asks, inserts, with] = transactions.map(|done| rate(done, length));
    figures.add("outbox.with_append", "tx/s", with);
    figures.add("outbox.without_append", "tx/s", without);
    figures.add("outbox.append_ratio", "of outbox.without_append", with / without);
    figures.add("outbox.statement_ratio", "of outbox.without_append", asks / without);
    figures.add("outbox.plain_insert_ratio", "of outbox.without_append", inserts / without);
    pipeline.remove().await
}

/// Transactions of all clients in one turn; they get their connections back.
async fn write(connections: &mut Vec<PgConnection>, side: Side, topic: &str) -> Result<u64> {
    let end = Instant::now() + TURN;
    let mut clients = JoinSet::new();
    for (client, mut connection) in std::mem::take(connections).into_iter().enumerate() {
        let topic = topic.to_owned();
        clients.spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                let number = u64::try_from(client)? * 1_000_003 + done;
                purchase(&mut connection, number, side, &topic).await?;
                done += 1;
            }
            anyhow::Ok((connection, done))
        });
    }
    let mut sum = 0;
    while let Some(ended) = clients.join_next().await {
        let (connection, done) = ended??;
        connections.push(connection);
        sum += done;
    }
    Ok(sum)
}

async fn purchase(connection: &mut PgConnection, number: u64, side: Side, topic: &str) -> Result<()> {
    let first = i64::try_from(number)?.wrapping_mul(7_919) % (PRODUCTS - 1);
    let products = [first, first + 1];
    let mut tx = connection.begin().await?;
    sqlx::query("select from bench.stock where product = any($1) order by product for update")
        .bind(products)
        .execute(&mut *tx)
        .await?;
    sqlx::query("update bench.stock set quantity = quantity - 1 where product = any($1) and quantity >= 1")
        .bind(products)
        .execute(&mut *tx)
        .await?;
    let purchase: i64 =
        sqlx::query_scalar("insert into bench.purchase (buyer, amount) values ($1, 24.68) returning id")
            .bind(first)
            .fetch_one(&mut *tx)
            .await?;
    sqlx::query("insert into bench.line select $1, product, 1, 12.34 from unnest($2::bigint[]) as product")
        .bind(purchase)
        .bind(products)
        .execute(&mut *tx)
        .await?;
    match side {
        Side::Nothing => {}
        Side::Asks => {
            sqlx::query("select 1").execute(&mut *tx).await?;
        }
        Side::Inserts => {
            let event = view(topic, number);
            sqlx::query("insert into bench.event (topic, key, payload) values ($1, $2, $3)")
                .bind(event.topic)
                .bind(event.partition_key)
                .bind(event.payload)
                .execute(&mut *tx)
                .await?;
        }
        Side::Appends => {
            outbox::append(&mut tx, &[view(topic, number)], &AppendLimits::default()).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}
