//! Rankings of products, read from the hourly counts and remembered for a moment.
//!
//! Invariants: one ranking is read at a time, and for no longer than `rankings.query_timeout`; `rankings.windows_max` of
//! them are remembered with `rankings.products_max` places each; none is served that is older than `rankings.age_max`.
//! The list and the page of a product look at the same ranking, so both tell the same rank.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtime::Clock;
use runtime::database::Pool;
use tokio::time::Instant;

use crate::counts::in_time;
use crate::domain::ranking::{Period, Window};
use crate::error::ApiError;
use crate::metrics;
use crate::remembered::{MemoryLimits, MemoryTask, ReadOne, Remembered, remembered};
use crate::settings::RankingSettings;
use crate::store::rankings::{Place, bound_statements, list_places};
use crate::store::{Session, StoreError};

/// The places of a window at a moment.
pub(crate) struct Ranking {
    /// The first place first.
    pub(crate) places: Vec<Place>,
    ranks: HashMap<i64, usize>,
    pub(crate) calculated_at: DateTime<Utc>,
}

impl Ranking {
    fn new(places: Vec<Place>, calculated_at: DateTime<Utc>) -> Self {
        let ranks = (1..).zip(&places).map(|(rank, place)| (place.product_id, rank)).collect();
        Self { places, ranks, calculated_at }
    }

    /// The product's rank, from 1.
    pub(crate) fn rank(&self, product_id: i64) -> Option<usize> {
        self.ranks.get(&product_id).copied()
    }
}

/// Rankings from the streamer's database.
pub(crate) struct RankingSource {
    pool: Pool,
    clock: Arc<dyn Clock>,
    settings: RankingSettings,
}

impl ReadOne for RankingSource {
    type Key = Window;
    type Value = Arc<Ranking>;

    async fn read_one(&self, window: Window) -> Result<Arc<Ranking>, StoreError> {
        let (read_at, calculated_at) = (Instant::now(), self.clock.now());
        let mut session = Session::begin(&self.pool).await?;
        bound_statements(&mut session, self.settings.query_timeout).await?;
        let weights = self.settings.weights();
        let places = list_places(&mut session, window, weights, self.settings.products_max).await?;
        session.roll_back().await;
        metrics::ranking_read(window.period, read_at.elapsed());
        Ok(Arc::new(Ranking::new(places, calculated_at)))
    }
}

/// Reads rankings for pages.
pub(crate) struct Rankings {
    remembered: Remembered<Window, Arc<Ranking>>,
    carries_over: bool,
    wait: Duration,
}

/// A reader whose queue holds `queue_max` requests, and its task. `wait` bounds how long a product's page waits.
pub(crate) fn rankings(
    pool: Pool,
    clock: Arc<dyn Clock>,
    settings: RankingSettings,
    queue_max: usize,
    wait: Duration,
) -> (Rankings, MemoryTask<RankingSource>) {
    let limits = MemoryLimits { entries_max: settings.windows_max, age_max: settings.age_max, queue_max };
    let (remembered, task) = remembered(RankingSource { pool, clock, settings }, limits);
    (Rankings { remembered, carries_over: settings.carry_over > 0.0, wait }, task)
}

impl Rankings {
    /// The ranking of a window, no older than the limit.
    ///
    /// # Errors
    /// When the database does not answer in time.
    pub(crate) async fn read(&self, window: Window) -> Result<Arc<Ranking>, ApiError> {
        self.remembered.read(if self.carries_over { window } else { window.alone() }).await
    }

    /// The product's rank today; `None` when it has none, and when the ranking cannot be had in time: a page is served
    /// without it.
    pub(crate) async fn find_rank(&self, product_id: i64, now: DateTime<Utc>) -> Option<usize> {
        let window = Window::new(Period::Daily, None, None, now).ok()?;
        in_time(self.wait, "a rank", self.read(window)).await?.rank(product_id)
    }
}
