//! The protocol as a state machine: two api processes, a streamer that is late, repeats itself and overtakes itself, readers
//! that store what they have read much later or never, entries that expire, a server that loses its memory. Dice decide;
//! what each step must leave behind is computed beside it, and no reader may see what the protocol forbids.
//!
//! What is promised, and what is not: once the invalidation of a version returned, nobody is shown an older state, until the
//! tombstone is lost (by a flush, or at the end of its life). From then on a card that was read before can be stored; it
//! says what the database said when it was read, until its life ends or an invalidation drops it.

use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use product_cache::{
    CacheSettings, Card, Invalidation, LocalCache, Lookup, ProductCache, RedisCache, Tombstone,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::redis_url;

use crate::{redis_cache, settings, suite};

const CARD_TTL: Duration = Duration::from_secs(60);
/// In lives of a card: a tombstone is gone with the third one that passes since it was raised or named again.
const TOMBSTONE_LIVES: u32 = 3;
const STEPS: usize = 150;
/// Calls that run at the same time.
const CALLS_MAX: usize = 4;
/// What was read, or is owed, and waits.
const WAITING_MAX: usize = 6;

fn lives() -> CacheSettings {
    settings(CARD_TTL, CARD_TTL * 5 / 2)
}

/// A cache with what happens to it from outside.
trait World {
    type Cache: ProductCache;

    /// The caches of two processes.
    fn processes(&self) -> [&Self::Cache; 2];

    /// Lets the life of every card pass; `tombstone` says whether that of the tombstone has ended too.
    async fn pass(&mut self, product_id: i64, tombstone: bool) -> anyhow::Result<()>;

    /// The server loses its memory.
    async fn flush(&mut self, product_id: i64) -> anyhow::Result<()>;
}

/// Two processes with a Redis.
struct Server {
    processes: [RedisCache; 2],
    connection: redis::aio::MultiplexedConnection,
    prefix: String,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let settings = lives();
        let prefix = settings.key_prefix.clone();
        let connection = redis::Client::open(redis_url()?)?.get_multiplexed_async_connection().await?;
        Ok(Self { processes: [redis_cache(settings.clone())?, redis_cache(settings)?], connection, prefix })
    }

    /// What the server does to a key at its end; a test cannot wait for that.
    async fn remove(&mut self, key: &str, product_id: i64) -> anyhow::Result<()> {
        let key = format!("{}{key}:{{{product_id}}}", self.prefix);
        Ok(redis::cmd("DEL").arg(key).query_async(&mut self.connection).await?)
    }
}

impl World for Server {
    type Cache = RedisCache;

    fn processes(&self) -> [&RedisCache; 2] {
        self.processes.each_ref()
    }

    async fn pass(&mut self, product_id: i64, tombstone: bool) -> anyhow::Result<()> {
        self.remove("card", product_id).await?;
        if tombstone {
            self.remove("inv", product_id).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, product_id: i64) -> anyhow::Result<()> {
        self.pass(product_id, true).await
    }
}

/// One process that caches for itself; time is what the test says.
struct Process(LocalCache);

impl World for Process {
    type Cache = LocalCache;

    fn processes(&self) -> [&LocalCache; 2] {
        [&self.0, &self.0]
    }

    async fn pass(&mut self, _product_id: i64, _tombstone: bool) -> anyhow::Result<()> {
        tokio::time::advance(CARD_TTL).await;
        Ok(())
    }

    async fn flush(&mut self, _product_id: i64) -> anyhow::Result<()> {
        self.0 = LocalCache::new(lives())?;
        Ok(())
    }
}

/// A call of one of the processes.
enum Call {
    Fill(Card),
    Invalidate(Invalidation),
}

/// The product, what waits somewhere, and what the cache must hold.
struct Model {
    product_id: i64,
    /// Whether nothing was left, by version from 1: the database's truth.
    sold_out: Vec<bool>,
    /// Read from the database and not stored yet.
    cards: Vec<Card>,
    /// Committed and not told to the cache, or told and to be told again.
    owed: Vec<Invalidation>,
    expected: Lookup,
    tombstone_lives: u32,
    /// The newest version whose invalidation has returned since the tombstone was lost.
    floor: i64,
}

impl Model {
    fn new(product_id: i64) -> Self {
        Self {
            product_id,
            sold_out: vec![false],
            cards: Vec::new(),
            owed: Vec::new(),
            expected: Lookup::default(),
            tombstone_lives: 0,
            floor: 0,
        }
    }

    fn version(&self) -> i64 {
        i64::try_from(self.sold_out.len()).expect("few steps")
    }

    fn is_sold_out_at(&self, version: i64) -> bool {
        self.sold_out[usize::try_from(version - 1).expect("versions begin at 1")]
    }

    /// The stock changes. A crossing of zero is owed to the cache, any other change may be.
    fn change(&mut self, dice: &mut StdRng) {
        let sold_out = dice.random();
        let crosses = sold_out != self.is_sold_out_at(self.version());
        self.sold_out.push(sold_out);
        if crosses || dice.random() {
            let (product_id, version) = (self.product_id, self.version());
            self.owed.push(Invalidation { product_id, version, sold_out });
        }
    }

    fn read(&mut self) {
        let version = self.version();
        self.cards.push(suite::card(self.product_id, version, self.is_sold_out_at(version)));
    }

    /// A call out of what waits, if anything does; half of it stays and is called again.
    fn call(&mut self, dice: &mut StdRng) -> Option<Call> {
        fn take<T: Clone>(waiting: &mut Vec<T>, dice: &mut StdRng) -> Option<T> {
            let index = (!waiting.is_empty()).then(|| dice.random_range(0..waiting.len()))?;
            let stays = waiting.len() <= WAITING_MAX && dice.random();
            Some(if stays { waiting[index].clone() } else { waiting.swap_remove(index) })
        }
        if dice.random() {
            take(&mut self.cards, dice).map(Call::Fill)
        } else {
            take(&mut self.owed, dice).map(Call::Invalidate)
        }
    }

    /// What calls leave behind, in whatever order they took effect: the newest tombstone, and the newest card that is not older.
    fn done(&mut self, calls: &[Call]) {
        let mut cards: Vec<Card> = self.expected.card.take().into_iter().collect();
        for call in calls {
            match call {
                Call::Fill(card) => cards.push(card.clone()),
                Call::Invalidate(Invalidation { version, sold_out, .. }) => {
                    let named = Tombstone { version: *version, sold_out: *sold_out };
                    let known = self.expected.tombstone.filter(|known| known.version >= *version);
                    self.expected.tombstone = Some(known.unwrap_or(named));
                    self.tombstone_lives = TOMBSTONE_LIVES;
                    self.floor = self.floor.max(*version);
                }
            }
        }
        let least = self.expected.tombstone.map_or(0, |tombstone| tombstone.version);
        self.expected.card = cards
            .into_iter()
            .max_by_key(|card| card.stock_version)
            .filter(|card| card.stock_version >= least);
    }

    /// Whether the tombstone has ended with this life of a card.
    fn pass(&mut self) -> bool {
        self.tombstone_lives = self.tombstone_lives.saturating_sub(1);
        self.expected.card = None;
        let ended = self.tombstone_lives == 0;
        if ended {
            self.lose();
        }
        ended
    }

    fn lose(&mut self) {
        (self.expected, self.floor) = (Lookup::default(), 0);
    }

    /// What a reader sees who holds `card`, from here or from the database, is the truth about a version that is not older than
    /// what was invalidated, nor than the card.
    fn check_shown(&self, lookup: &Lookup, card: &Card) -> anyhow::Result<()> {
        let version = lookup.tombstone.map_or(0, |tombstone| tombstone.version).max(card.stock_version);
        anyhow::ensure!(version >= self.floor, "version {version} is shown after {}", self.floor);
        anyhow::ensure!(lookup.sold_out(card) == self.is_sold_out_at(version), "version {version} is a lie");
        Ok(())
    }

    async fn check(&self, caches: [&impl ProductCache; 2]) -> anyhow::Result<()> {
        for cache in caches {
            let lookups = cache.read(&[self.product_id]).await?;
            anyhow::ensure!(lookups == [self.expected.clone()], "{lookups:?} is not {:?}", self.expected);
            for card in lookups[0].card.iter().chain(&self.cards) {
                self.check_shown(&lookups[0], card)?;
            }
        }
        Ok(())
    }
}

async fn call(cache: &impl ProductCache, call: &Call) -> anyhow::Result<()> {
    match call {
        Call::Fill(card) => cache.fill(std::slice::from_ref(card)).await?,
        Call::Invalidate(invalidation) => cache.invalidate(std::slice::from_ref(invalidation)).await?,
    }
    Ok(())
}

async fn step(world: &mut impl World, model: &mut Model, dice: &mut StdRng) -> anyhow::Result<()> {
    match dice.random_range(0..100) {
        0..25 => model.change(dice),
        25..45 => model.read(),
        // A reader dies with what it has read.
        45..48 => model.cards.truncate(1),
        48..53 => {
            let tombstone = model.pass();
            world.pass(model.product_id, tombstone).await?;
        }
        53..55 => {
            model.lose();
            world.flush(model.product_id).await?;
        }
        _ => {
            let calls: Vec<Call> =
                (0..dice.random_range(1..=CALLS_MAX)).filter_map(|_| model.call(dice)).collect();
            let caches = world.processes();
            try_join_all(calls.iter().map(|one| call(caches[dice.random_range(0..2)], one))).await?;
            model.done(&calls);
        }
    }
    model.check(world.processes()).await
}

async fn run(world: &mut impl World, seed: u64) -> anyhow::Result<()> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut model = Model::new(i64::try_from(seed)? + 1);
    for number in 0..STEPS {
        step(world, &mut model, &mut dice).await.with_context(|| format!("seed {seed}, step {number}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn no_seed_shows_an_older_state_than_the_server_was_told() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    for seed in 0..30 {
        run(&mut server, seed).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_seed_shows_an_older_state_than_the_process_was_told() -> anyhow::Result<()> {
    for seed in 0..300 {
        run(&mut Process(LocalCache::new(lives())?), seed).await?;
    }
    Ok(())
}
