//! Orders: lines, limits, totals, and when a change of stock is news.

use std::collections::BTreeMap;

use commerce_events::{OrderLineV1, StockEvent, StockV1};

use super::InvalidInput;
use super::money::checked_total;

/// Units of one product in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) product_id: i64,
    pub(crate) quantity: i64,
}

/// One line of an order, as stored and as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The product.
    pub product_id: i64,
    /// Units, at least 1.
    pub quantity: i64,
    /// Minor units for one.
    pub unit_price: i64,
}

impl From<&Line> for OrderLineV1 {
    fn from(line: &Line) -> Self {
        Self { product_id: line.product_id, quantity: line.quantity, unit_price: line.unit_price }
    }
}

/// What an order stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKind {
    /// Bought; counts while it is completed.
    Sale,
    /// A recorded cancellation that does not name its sale: its lines count negative.
    Refund,
}

impl OrderKind {
    /// As stored in `shop.orders.kind`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Refund => "refund",
        }
    }
}

/// The limits of an order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderLimits {
    /// Lines, before lines of one product are merged.
    pub(crate) lines_max: usize,
    /// Units of one product.
    pub(crate) quantity_max: i64,
}

/// Lines of one product become one; the result is in product order, the order in which stock is locked.
///
/// # Errors
/// A rule that the lines break.
pub(crate) fn merge_lines(lines: &[Wanted], limits: OrderLimits) -> Result<Vec<Wanted>, InvalidInput> {
    if lines.is_empty() {
        return Err(InvalidInput::NoLines);
    }
    if lines.len() > limits.lines_max {
        return Err(InvalidInput::TooManyLines);
    }
    let mut merged = BTreeMap::new();
    for line in lines {
        if line.product_id < 1 {
            return Err(InvalidInput::Id);
        }
        if !(1..=limits.quantity_max).contains(&line.quantity) {
            return Err(InvalidInput::Quantity);
        }
        // Both sides are at most the maximum, so their sum cannot overflow.
        let quantity: &mut i64 = merged.entry(line.product_id).or_default();
        *quantity += line.quantity;
        if *quantity > limits.quantity_max {
            return Err(InvalidInput::Quantity);
        }
    }
    Ok(merged.into_iter().map(|(product_id, quantity)| Wanted { product_id, quantity }).collect())
}

/// Units by product, in product order: what a cancelled order gives back.
pub(crate) fn units_by_product(lines: &[Line]) -> Vec<Wanted> {
    let mut units = BTreeMap::<i64, i64>::new();
    for line in lines {
        *units.entry(line.product_id).or_default() += line.quantity;
    }
    units.into_iter().map(|(product_id, quantity)| Wanted { product_id, quantity }).collect()
}

/// Σ quantity × price.
///
/// # Errors
/// [`InvalidInput::Total`] when it does not fit.
pub(crate) fn total(lines: &[Line]) -> Result<i64, InvalidInput> {
    checked_total(lines.iter().map(|line| (line.quantity, line.unit_price))).ok_or(InvalidInput::Total)
}

/// A product's stock after a change, with what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StockChange {
    pub(crate) product_id: i64,
    pub(crate) before: i64,
    pub(crate) after: i64,
    pub(crate) version: i64,
}

/// The event that a change of stock is, if it crosses zero.
pub(crate) fn stock_event(change: &StockChange) -> Option<StockEvent> {
    let state = StockV1 { product_id: change.product_id, quantity: change.after, version: change.version };
    match (change.before, change.after) {
        (1.., 0) => Some(StockEvent::Depleted(state)),
        (0, 1..) => Some(StockEvent::Replenished(state)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use commerce_events::StockEvent;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Line, OrderLimits, StockChange, Wanted, merge_lines, stock_event, total};
    use crate::domain::InvalidInput;

    const QUANTITY_MAX: i64 = 1_000;

    fn limits(lines_max: usize) -> OrderLimits {
        OrderLimits { lines_max, quantity_max: QUANTITY_MAX }
    }

    fn wanted(lines: &[(i64, i64)]) -> Vec<Wanted> {
        lines
            .iter()
            .map(|(product_id, quantity)| Wanted { product_id: *product_id, quantity: *quantity })
            .collect()
    }

    #[test]
    fn lines_of_one_product_become_one_in_product_order() {
        assert_eq!(
            merge_lines(&wanted(&[(9, 1), (2, 3), (9, 4)]), limits(10)),
            Ok(wanted(&[(2, 3), (9, 5)]))
        );
    }

    #[test]
    fn lines_outside_the_limits_are_refused() {
        for (lines, reason) in [
            (vec![], InvalidInput::NoLines),
            (vec![(1, 1); 4], InvalidInput::TooManyLines),
            (vec![(0, 1)], InvalidInput::Id),
            (vec![(i64::MIN, 1)], InvalidInput::Id),
            (vec![(1, 0)], InvalidInput::Quantity),
            (vec![(1, -1)], InvalidInput::Quantity),
            (vec![(1, i64::MAX)], InvalidInput::Quantity),
            (vec![(1, QUANTITY_MAX), (1, 1)], InvalidInput::Quantity),
        ] {
            assert_eq!(merge_lines(&wanted(&lines), limits(3)), Err(reason), "{lines:?}");
        }
        assert!(merge_lines(&wanted(&[(1, 1), (2, 1), (3, QUANTITY_MAX)]), limits(3)).is_ok());
    }

    #[test]
    fn a_total_that_does_not_fit_is_refused() {
        let line = Line { product_id: 1, quantity: i64::MAX, unit_price: 1 };
        assert_eq!(total(&[line]), Ok(i64::MAX));
        assert_eq!(total(&[line, line]), Err(InvalidInput::Total));
    }

    #[test]
    fn only_a_change_across_zero_is_news() {
        let event = |before, after| stock_event(&StockChange { product_id: 1, before, after, version: 2 });
        assert!(matches!(event(1, 0), Some(StockEvent::Depleted(state)) if state.version == 2));
        assert!(matches!(event(0, 5), Some(StockEvent::Replenished(state)) if state.quantity == 5));
        assert_eq!([event(0, 0), event(5, 4), event(4, 5)], [None, None, None]);
    }

    proptest! {
        #[test]
        fn merging_keeps_the_units(lines in proptest::collection::vec((1_i64..5, 1_i64..1_000), 1..50)) {
            let merged = merge_lines(&wanted(&lines), OrderLimits { lines_max: 50, quantity_max: 50_000 }).unwrap();
            prop_assert!(merged.is_sorted_by(|left, right| left.product_id < right.product_id));
            let units: i64 = merged.iter().map(|line| line.quantity).sum();
            prop_assert_eq!(units, lines.iter().map(|(_, quantity)| quantity).sum::<i64>());
        }

        #[test]
        fn hostile_lines_never_panic(lines in proptest::collection::vec((any::<i64>(), any::<i64>()), 0..5)) {
            let _ = merge_lines(&wanted(&lines), limits(4));
        }
    }
}
