//! A projection that has everything that can go wrong: counters that partitions share, states by version, a cache beside
//! the database.

use std::collections::BTreeMap;
use std::time::Duration;

use inbox::{Decision, OrderingMode, Projection, RecordView, Refusal, kill_point};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;

use super::event::{Event, Kind};
use super::store;
use super::variant::Variant;

/// How often owed invalidations are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(300);

/// What the consumer that writes row by row does between two rows: it meets others more often than by chance.
const ROW_WORK: Duration = Duration::from_millis(1);

/// See the module.
pub(crate) struct Tortured {
    variant: Variant,
    is_mended: bool,
    is_strict: bool,
    options: PgConnectOptions,
    /// For what follows commits.
    connection: Mutex<Option<PgConnection>>,
}

impl Tortured {
    pub(crate) fn new(variant: Variant, is_mended: bool, is_strict: bool, options: PgConnectOptions) -> Self {
        Self { variant, is_mended, is_strict, options, connection: Mutex::new(None) }
    }

    /// Does what dead members owe, for ever.
    pub(crate) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            if let Err(error) = self.invalidate(None).await {
                tracing::warn!(%error, "sweep is done later");
            }
        }
    }

    /// Writes the cache, then clears what was owed; of `None`, whatever is owed for long.
    async fn invalidate(&self, states: Option<&[(i64, i64)]>) -> Result<(), sqlx::Error> {
        let mut place = self.connection.lock().await;
        // Put back only after a success: a connection that failed is not used again.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => PgConnection::connect_with(&self.options).await?,
        };
        let owed = match states {
            Some(states) => states.to_vec(),
            None => store::list_owed(&mut connection).await?,
        };
        store::raise_cache(&mut connection, &owed).await?;
        if states.is_some() {
            kill_point("inbox.in_invalidation");
        }
        store::clear_intents(&mut connection, &owed).await?;
        *place = Some(connection);
        Ok(())
    }

    fn totals(&self, events: &[Event]) -> Vec<(i64, i64, i64)> {
        let mut totals: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        let mut arrived = Vec::new();
        for event in events {
            let total = totals.entry(event.product).or_insert_with(|| {
                arrived.push(event.product);
                (0, 0)
            });
            *total = (total.0 + 1, total.1 + event.amount);
        }
        if self.variant != Variant::Unsorted {
            arrived.sort_unstable();
        }
        arrived.into_iter().map(|product| (product, totals[&product].0, totals[&product].1)).collect()
    }

    fn states(&self, events: &[Event]) -> Vec<(i64, i64)> {
        let mut states: BTreeMap<i64, i64> = BTreeMap::new();
        for event in events {
            let version = states.entry(event.key).or_insert(event.version);
            if *version < event.version || self.variant == Variant::NoVersionGuard {
                *version = event.version;
            }
        }
        states.into_iter().collect()
    }
}

impl Projection for Tortured {
    type Event = Event;

    fn ordering(&self) -> OrderingMode {
        if self.is_strict { OrderingMode::Strict } else { OrderingMode::LatestWins }
    }

    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<Event>, Refusal> {
        let refuse = |error: String| Refusal { reason: "malformed", error };
        let text = std::str::from_utf8(record.value.unwrap_or_default())
            .map_err(|error| refuse(error.to_string()))?;
        let event: Event = text.parse().map_err(|error| refuse(format!("{error:#}")))?;
        if event.kind == Kind::Bad && !self.is_mended {
            return Err(refuse("it is bad".to_owned()));
        }
        Ok(Decision::Apply(event))
    }

    async fn apply(
        &self,
        tx: &mut PgConnection,
        _topic: &str,
        _partition: i32,
        events: &[Event],
    ) -> Result<(), sqlx::Error> {
        store::insert_effects(tx, events).await?;
        let totals = self.totals(events);
        if self.variant == Variant::Unsorted {
            // Row by row, as a loop over the events would, with some work for each.
            for total in &totals {
                store::add_totals(tx, std::slice::from_ref(total)).await?;
                tokio::time::sleep(ROW_WORK).await;
            }
        } else {
            store::add_totals(tx, &totals).await?;
        }
        let by_any = self.variant == Variant::NoVersionGuard;
        let replaced = store::replace_states(tx, &self.states(events), by_any).await?;
        if self.variant != Variant::NoIntent {
            store::insert_intents(tx, &replaced).await?;
        }
        Ok(())
    }

    async fn committed(&self, events: &[Event]) {
        if let Err(error) = self.invalidate(Some(&self.states(events))).await {
            tracing::warn!(%error, "invalidation is left to a sweeper");
        }
    }
}
