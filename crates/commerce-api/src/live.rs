//! What is shown of watched products, pushed when it changes.
//!
//! Invariants: each tick reads the union of what is watched once, however many watch it, and reads nothing when nobody
//! does; a watcher is told the state of each product that he watches and then every change of it, in order; at most
//! `api.live_queue_max` of them wait for him, and one who falls further behind is sent away; a watcher who is gone is
//! forgotten at once; a state of stock is never followed by an older one. Deliberately absent: HTTP, and which products
//! exist (`routes::live`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::catalog::StockState;
use crate::counts::ShownCounts;
use crate::error::ApiError;
use crate::metrics;

/// What is known of a watched product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveProduct {
    pub(crate) product_id: i64,
    pub(crate) stock: StockState,
    /// `None` when none are known.
    pub(crate) counts: Option<ShownCounts>,
}

impl LiveProduct {
    /// What a watcher sees of it.
    fn shown(&self) -> (bool, Option<ShownCounts>) {
        (self.stock.sold_out, self.counts)
    }

    /// Takes what was read. A stock that could not be read stays; counts know by themselves how long they hold.
    fn update(&mut self, stock: Option<StockState>, counts: Option<ShownCounts>) {
        if let Some(stock) = stock
            && stock.version >= self.stock.version
        {
            self.stock = stock;
        }
        self.counts = counts;
    }
}

/// Where products are watched.
pub(crate) struct Live {
    board: Arc<Mutex<Board>>,
    places: Arc<Semaphore>,
    queue_max: usize,
}

/// A watcher's place among all.
pub(crate) struct Place(OwnedSemaphorePermit);

impl Live {
    /// Nobody watches; `watchers_max` may, each with at most `queue_max` states that he has not taken.
    pub(crate) fn new(watchers_max: usize, queue_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(watchers_max));
        Self { board: Arc::default(), places, queue_max }
    }

    /// A place, before anything is read for its watcher.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] when all are taken.
    pub(crate) fn take_place(&self) -> Result<Place, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        Ok(Place(place.map_err(|_| ApiError::Overloaded)?))
    }

    /// Watches `products`, which are distinct, no more than a queue holds, and were just read.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] when the process ends.
    pub(crate) fn watch(&self, place: Place, products: Vec<LiveProduct>) -> Result<Watch, ApiError> {
        let (sender, states) = mpsc::channel(self.queue_max.max(1));
        let number = lock(&self.board).watch(sender, products).ok_or(ApiError::Overloaded)?;
        metrics::live_watchers(1.0);
        Ok(Watch { number, states, board: Arc::clone(&self.board), _place: place.0 })
    }
}

/// A watcher, until it is dropped.
pub(crate) struct Watch {
    /// Different for each watcher of the process.
    pub(crate) number: u64,
    states: mpsc::Receiver<LiveProduct>,
    board: Arc<Mutex<Board>>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// The next state; `None` when the watcher was too slow, or the process ends.
    pub(crate) async fn next(&mut self) -> Option<LiveProduct> {
        self.states.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        metrics::live_watchers(-1.0);
        lock(&self.board).forget(self.number);
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    // A panic of another thread cannot leave the board so that it misleads: what it has not told, the next tick tells.
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who watches what. A product is here while somebody watches it.
#[derive(Default)]
struct Board {
    products: HashMap<i64, Watched>,
    watchers: HashMap<u64, Watcher>,
    last_number: u64,
    is_closed: bool,
}

struct Watched {
    product: LiveProduct,
    watchers: HashSet<u64>,
}

struct Watcher {
    states: mpsc::Sender<LiveProduct>,
    ids: Vec<i64>,
}

impl Board {
    /// `None` when the board is closed. What others are told already is told to the newcomer too, so that the next change is
    /// one for all of them.
    fn watch(&mut self, states: mpsc::Sender<LiveProduct>, products: Vec<LiveProduct>) -> Option<u64> {
        if self.is_closed {
            return None;
        }
        self.last_number += 1;
        let number = self.last_number;
        let ids = products.iter().map(|product| product.product_id).collect();
        for product in products {
            let watched = self
                .products
                .entry(product.product_id)
                .or_insert_with(|| Watched { product, watchers: HashSet::new() });
            watched.watchers.insert(number);
            // A queue that does not hold them all is noticed with the first change.
            let _ = states.try_send(watched.product);
        }
        self.watchers.insert(number, Watcher { states, ids });
        Some(number)
    }

    fn forget(&mut self, number: u64) {
        let Some(watcher) = self.watchers.remove(&number) else { return };
        for id in watcher.ids {
            if let Some(watched) = self.products.get_mut(&id) {
                watched.watchers.remove(&number);
                if watched.watchers.is_empty() {
                    self.products.remove(&id);
                }
            }
        }
    }

    fn ids(&self) -> Vec<i64> {
        let ids: BTreeSet<i64> = self.products.keys().copied().collect();
        ids.into_iter().collect()
    }

    /// Takes what was read of a product and tells its watchers what has changed. Whoever cannot take it is sent away.
    fn update(&mut self, id: i64, stock: Option<StockState>, counts: Option<ShownCounts>) {
        let Some(watched) = self.products.get_mut(&id) else { return };
        let before = watched.product.shown();
        watched.product.update(stock, counts);
        if watched.product.shown() == before {
            return;
        }
        let product = watched.product;
        let mut left = Vec::new();
        for number in &watched.watchers {
            let Some(watcher) = self.watchers.get(number) else { continue };
            match watcher.states.try_send(product) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    metrics::live_dropped();
                    left.push(*number);
                }
                Err(TrySendError::Closed(_)) => left.push(*number),
            }
        }
        left.into_iter().for_each(|number| self.forget(number));
    }

    /// Sends everybody away and lets nobody in any more.
    fn close(&mut self) {
        *self = Self { is_closed: true, ..Self::default() };
    }
}

/// The one ticker of the process: reads what is watched and tells what has changed, until the process ends. Then every
/// watcher is sent away, so that the server can end.
///
/// # Errors
/// Never; what cannot be read now is read again by the next tick.
pub(crate) async fn run(app: Arc<App>, shutdown: CancellationToken) -> Result<(), Infallible> {
    shutdown.run_until_cancelled(tick_for_ever(&app)).await;
    lock(&app.live.board).close();
    Ok(())
}

async fn tick_for_ever(app: &App) {
    let mut ticks = tokio::time::interval(app.settings.live_tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ids = lock(&app.live.board).ids();
        for ids in ids.chunks(app.settings.live_read_max) {
            read(app, ids).await;
        }
    }
}

/// One read of the cache and one of the counts, for all watchers of `ids`.
async fn read(app: &App, ids: &[i64]) {
    metrics::live_read();
    let (stocks, counts) =
        tokio::join!(app.catalog.list_stocks(ids, app.settings.counts_wait), app.counts.read_now(ids));
    let mut board = lock(&app.live.board);
    for (id, stock) in ids.iter().zip(stocks) {
        board.update(*id, stock, counts.get(id).copied());
    }
}

#[cfg(test)]
mod tests {
    use super::{Live, LiveProduct, Watch, lock};
    use crate::catalog::StockState;
    use crate::counts::ShownCounts;
    use crate::error::ApiError;
    use crate::store::counts::Counts;

    fn stock(version: i64, sold_out: bool) -> StockState {
        StockState { version, sold_out }
    }

    fn likes(like_count: i64) -> ShownCounts {
        ShownCounts { counts: Counts { like_count, ..Counts::default() }, is_stale: false }
    }

    fn product(product_id: i64) -> LiveProduct {
        LiveProduct { product_id, stock: stock(1, false), counts: Some(likes(0)) }
    }

    fn watch(live: &Live, ids: &[i64]) -> Watch {
        live.watch(live.take_place().unwrap(), ids.iter().copied().map(product).collect()).unwrap()
    }

    fn taken(watch: &mut Watch) -> Vec<(i64, bool, i64)> {
        std::iter::from_fn(|| watch.states.try_recv().ok())
            .map(|state| (state.product_id, state.stock.sold_out, state.counts.unwrap().counts.like_count))
            .collect()
    }

    #[test]
    fn the_state_comes_first_and_then_only_changes() {
        let live = Live::new(2, 10);
        let mut first = watch(&live, &[1, 2]);
        assert_eq!(taken(&mut first), [(1, false, 0), (2, false, 0)]);
        lock(&live.board).update(1, Some(stock(1, false)), Some(likes(0)));
        lock(&live.board).update(2, Some(stock(2, false)), Some(likes(5)));
        lock(&live.board).update(3, Some(stock(2, true)), Some(likes(5)));
        assert_eq!(taken(&mut first), [(2, false, 5)]);
        let mut second = watch(&live, &[2]);
        assert_eq!(taken(&mut second), [(2, false, 5)], "what the others know");
        lock(&live.board).update(2, Some(stock(2, false)), Some(likes(6)));
        assert_eq!((taken(&mut first), taken(&mut second)), (vec![(2, false, 6)], vec![(2, false, 6)]));
    }

    #[test]
    fn an_older_state_of_stock_changes_nothing_and_one_that_cannot_be_read_stays() {
        let live = Live::new(1, 10);
        let mut watcher = watch(&live, &[1]);
        lock(&live.board).update(1, Some(stock(5, true)), Some(likes(3)));
        lock(&live.board).update(1, Some(stock(4, false)), Some(likes(3)));
        lock(&live.board).update(1, None, Some(likes(3)));
        assert_eq!(taken(&mut watcher), [(1, false, 0), (1, true, 3)]);
        lock(&live.board).update(1, Some(stock(6, false)), Some(likes(3)));
        assert_eq!(taken(&mut watcher), [(1, false, 3)]);
    }

    #[test]
    fn a_watcher_who_is_gone_is_forgotten_at_once() {
        let live = Live::new(2, 10);
        let (first, second) = (watch(&live, &[1, 2]), watch(&live, &[2]));
        assert!(matches!(live.take_place(), Err(ApiError::Overloaded)));
        drop(first);
        assert_eq!(lock(&live.board).ids(), [2]);
        assert!(live.take_place().is_ok());
        drop(second);
        let board = lock(&live.board);
        assert!(board.products.is_empty() && board.watchers.is_empty());
    }

    #[tokio::test]
    async fn a_watcher_whose_queue_is_full_is_sent_away_and_the_others_are_not() {
        let live = Live::new(2, 3);
        let (mut slow, mut quick) = (watch(&live, &[1, 2]), watch(&live, &[1]));
        for count in 1..=2 {
            taken(&mut quick);
            lock(&live.board).update(1, None, Some(likes(count)));
        }
        assert_eq!(lock(&live.board).ids(), [1], "nobody watches the other product any more");
        assert_eq!(taken(&mut slow).len(), 3, "as many as the queue holds");
        assert!(slow.next().await.is_none());
        lock(&live.board).update(1, None, Some(likes(9)));
        assert_eq!(taken(&mut quick), [(1, false, 2), (1, false, 9)]);
    }

    #[tokio::test]
    async fn at_the_end_everybody_is_sent_away_and_nobody_let_in() {
        let live = Live::new(2, 3);
        let mut watcher = watch(&live, &[1]);
        lock(&live.board).close();
        taken(&mut watcher);
        assert!(watcher.next().await.is_none());
        let place = live.take_place().unwrap();
        assert!(matches!(live.watch(place, vec![product(1)]), Err(ApiError::Overloaded)));
    }
}
