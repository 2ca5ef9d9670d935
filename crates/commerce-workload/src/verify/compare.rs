//! Product by product: what the sources say against what buyers see.

use std::cmp::Ordering;
use std::pin::pin;

use commerce_api::{ProductRecount, recount};
use futures_util::TryStreamExt;
use serde::Serialize;
use sqlx::PgConnection;

use super::scan::{Recount, StockState};
use super::store::{Shown, stream_shown};

/// Differences that are listed; the others are only counted.
pub(super) const DIFFERENCES_LISTED_MAX: usize = 20;

/// One thing of one product that is not as its source says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The product.
    pub product_id: i64,
    /// What differs.
    pub what: &'static str,
    /// By the source; `None`: there should be nothing.
    pub expected: Option<i64>,
    /// What buyers see; for a state 1 is yes. `None`: there is nothing.
    pub found: Option<i64>,
}

/// Sums over all products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Likes.
    pub likes: i64,
    /// Units sold.
    pub sales: i64,
    /// Minor units.
    pub amount: i64,
    /// Views.
    pub views: i64,
    /// Products that are sold out and were available before.
    pub sold_out: i64,
}

/// Everything that was compared.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) products: u64,
    pub(super) expected: Totals,
    pub(super) found: Totals,
    pub(super) differences_total: u64,
    pub(super) differences: Vec<Difference>,
}

/// Walks both sides in the order of products. Takes the counts of `views` and `stock` that it has used.
pub(super) async fn compare(
    shop: &mut PgConnection,
    metrics: &mut PgConnection,
    views: &mut Recount,
    stock: &mut Recount,
) -> anyhow::Result<Comparison> {
    let mut comparison = Comparison::default();
    let mut sources = pin!(recount(shop));
    let mut shown = pin!(stream_shown(metrics));
    let (mut source, mut show) = (sources.try_next().await?, shown.try_next().await?);
    loop {
        let order = match (&source, &show) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(show)) => source.product_id.cmp(&show.product_id),
        };
        let left = if order.is_le() { source.take() } else { None };
        let right = if order.is_ge() { show.take() } else { None };
        comparison.add(left, right, views, stock);
        if order.is_le() {
            source = sources.try_next().await?;
        }
        if order.is_ge() {
            show = shown.try_next().await?;
        }
    }
    comparison.add_unknown(views);
    Ok(comparison)
}

impl Comparison {
    /// One product; at least one side knows it.
    fn add(
        &mut self,
        source: Option<ProductRecount>,
        show: Option<Shown>,
        views: &mut Recount,
        stock: &mut Recount,
    ) {
        let Some(product_id) = source.map(|source| source.product_id).or(show.map(|show| show.product_id))
        else {
            return;
        };
        self.products += 1;
        let expected_views = views.views.remove(&product_id).unwrap_or(0);
        let expected = Totals {
            likes: source.map_or(0, |source| source.likes),
            sales: source.map_or(0, |source| source.units),
            amount: source.map_or(0, |source| source.amount),
            views: expected_views,
            sold_out: 0,
        };
        let found = Totals {
            likes: show.map_or(0, |show| show.likes),
            sales: show.map_or(0, |show| show.sales),
            amount: show.map_or(0, |show| show.amount),
            views: show.map_or(0, |show| show.views),
            sold_out: 0,
        };
        self.require(product_id, "likes", expected.likes, found.likes);
        self.require(product_id, "sales", expected.sales, found.sales);
        self.require(product_id, "amount", expected.amount, found.amount);
        // A log without its beginning holds a part of the views only.
        if views.summary.complete || found.views < expected.views {
            self.require(product_id, "views", expected.views, found.views);
        }
        self.expected.add(expected);
        self.found.add(found);
        let told = stock.stock.remove(&product_id);
        self.add_stock(product_id, source, show, (told, stock.summary.complete));
    }

    /// The shown state is that of the newest event, which is the state of the shop: between two events the shop's
    /// version rises, its state does not change. A product whose stock never crossed 0 has no event and no state.
    fn add_stock(
        &mut self,
        product_id: i64,
        source: Option<ProductRecount>,
        show: Option<Shown>,
        (told, is_complete): (Option<StockState>, bool),
    ) {
        let shown =
            show.and_then(|show| Some(StockState { version: show.stock_version?, sold_out: show.sold_out? }));
        let version = |state: Option<StockState>| state.map(|state| state.version);
        let sold_out = |state: Option<StockState>| state.map(|state| i64::from(state.sold_out));
        if is_complete || version(told) > version(shown) {
            self.require_same(product_id, "stock version", version(told), version(shown));
            self.require_same(product_id, "sold out", sold_out(told), sold_out(shown));
        }
        if let (Some(shown), Some(source)) = (shown, source) {
            self.expected.sold_out += i64::from(source.sold_out);
            self.found.sold_out += i64::from(shown.sold_out);
            // Said already when the newest event has not been applied.
            if told.is_none_or(|told| told.version <= shown.version) {
                self.require(
                    product_id,
                    "sold out (shop)",
                    i64::from(source.sold_out),
                    i64::from(shown.sold_out),
                );
            }
        }
    }

    /// Views of products that neither side knows.
    fn add_unknown(&mut self, views: &mut Recount) {
        let mut unknown: Vec<(i64, i64)> = views.views.drain().collect();
        unknown.sort_unstable();
        for (product_id, count) in unknown {
            self.expected.views += count;
            self.require(product_id, "views", count, 0);
        }
    }

    fn require(&mut self, product_id: i64, what: &'static str, expected: i64, found: i64) {
        self.require_same(product_id, what, Some(expected), Some(found));
    }

    fn require_same(
        &mut self,
        product_id: i64,
        what: &'static str,
        expected: Option<i64>,
        found: Option<i64>,
    ) {
        if expected == found {
            return;
        }
        self.differences_total += 1;
        if self.differences.len() < DIFFERENCES_LISTED_MAX {
            self.differences.push(Difference { product_id, what, expected, found });
        }
    }
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.likes += other.likes;
        self.sales += other.sales;
        self.amount += other.amount;
        self.views += other.views;
        self.sold_out += other.sold_out;
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, ProductRecount, Recount, Shown, StockState};

    const SOURCE: ProductRecount =
        ProductRecount { product_id: 5, likes: 2, units: 7, amount: 70, sold_out: true, stock_version: 12 };
    const SHOWN: Shown = Shown {
        product_id: 5,
        likes: 2,
        sales: 7,
        amount: 70,
        views: 3,
        sold_out: Some(true),
        stock_version: Some(9),
    };

    fn recounts(views: i64, stock: Option<StockState>, complete: bool) -> (Recount, Recount) {
        let (mut view, mut state) = (Recount::default(), Recount::default());
        view.summary.complete = complete;
        state.summary.complete = complete;
        view.views.insert(5, views);
        state.stock.extend(stock.map(|stock| (5, stock)));
        (view, state)
    }

    const TOLD: Option<StockState> = Some(StockState { version: 9, sold_out: true });

    fn found(
        source: Option<ProductRecount>,
        shown: Option<Shown>,
        (mut views, mut stock): (Recount, Recount),
    ) -> Vec<&'static str> {
        let mut comparison = Comparison::default();
        comparison.add(source, shown, &mut views, &mut stock);
        comparison.differences.into_iter().map(|difference| difference.what).collect()
    }

    #[test]
    fn a_product_that_agrees_has_no_difference() {
        assert!(found(Some(SOURCE), Some(SHOWN), recounts(3, TOLD, true)).is_empty());
        let untouched = ProductRecount { likes: 0, units: 0, amount: 0, ..SOURCE };
        assert!(
            found(Some(untouched), None, recounts(0, None, true)).is_empty(),
            "never available, never shown"
        );
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let cases = [
            (Shown { likes: 3, ..SHOWN }, "likes"),
            (Shown { sales: 6, ..SHOWN }, "sales"),
            (Shown { amount: 71, ..SHOWN }, "amount"),
            (Shown { views: 4, ..SHOWN }, "views"),
            (Shown { stock_version: Some(8), ..SHOWN }, "stock version"),
        ];
        for (shown, what) in cases {
            assert_eq!(found(Some(SOURCE), Some(shown), recounts(3, TOLD, true)), [what]);
        }
        let available = Shown { sold_out: Some(false), ..SHOWN };
        assert_eq!(
            found(Some(SOURCE), Some(available), recounts(3, TOLD, true)),
            ["sold out", "sold out (shop)"]
        );
        assert_eq!(
            found(Some(SOURCE), None, recounts(3, TOLD, true)),
            ["likes", "sales", "amount", "views", "stock version", "sold out"]
        );
        assert_eq!(found(None, Some(SHOWN), recounts(3, TOLD, true)), ["likes", "sales", "amount"]);
        let restocked = ProductRecount { sold_out: false, ..SOURCE };
        assert_eq!(found(Some(restocked), Some(SHOWN), recounts(3, TOLD, true)), ["sold out (shop)"]);
    }

    #[test]
    fn a_log_without_its_beginning_gives_a_lower_bound() {
        assert!(found(Some(SOURCE), Some(SHOWN), recounts(1, None, false)).is_empty());
        assert_eq!(found(Some(SOURCE), Some(SHOWN), recounts(4, None, false)), ["views"]);
    }

    #[test]
    fn only_the_first_differences_are_listed_and_all_are_counted() {
        let mut comparison = Comparison::default();
        let (mut views, _) = recounts(1, None, true);
        views.views.extend((0..50).map(|product_id| (product_id, 1)));
        comparison.add_unknown(&mut views);
        assert_eq!((comparison.differences.len(), comparison.differences_total), (20, 50));
        assert_eq!(comparison.differences[0].product_id, 0);
        assert_eq!(comparison.expected.views, 50);
    }
}
