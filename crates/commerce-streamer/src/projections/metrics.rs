//! Likes, sales and views, all-time and by the hour of the event.
//!
//! Counters are additive: they never look at versions, only at whether an event is new, which `inbox` answers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use commerce_events::{CatalogEvent, Event, OrderEvent, OrderLineV1, StockEvent, TypeName, ViewEvent};
use inbox::{Decision, OrderingMode, Projection, RecordView, Refusal};
use sqlx::PgConnection;

use super::decode;
use crate::store::metrics::{self as store, Applied, Counts, Row, Tally};

/// The consumer group, without prefix.
pub const METRICS_GROUP: &str = "product-metrics";

const SECONDS_OF_HOUR: i64 = 3_600;
/// Event times outside these years are refused: they are a producer's broken clock, and would make rows that no
/// ranking ever reads.
const FIRST_EVENT_TIME: i64 = 946_684_800; // 2000-01-01
const LAST_EVENT_TIME: i64 = 4_102_444_800; // 2100-01-01

/// What one event adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    kind: TypeName,
    /// Start of the hour of the event's time, in seconds since the epoch.
    hour: i64,
    effect: Effect,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Effect {
    Like { product_id: i64, sign: i64 },
    View { product_id: i64 },
    Order { lines: Vec<OrderLineV1>, sign: i64 },
}

/// The projection; it has no state of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetricsProjection;

impl Projection for MetricsProjection {
    type Event = Change;

    fn ordering(&self) -> OrderingMode {
        OrderingMode::Commutative
    }

    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<Change>, Refusal> {
        let Some(event) = decode(record)? else { return Ok(Decision::Unknown) };
        let hour = hour_of(record.occurred_at)?;
        let kind = event.type_name();
        let effect = match event {
            Event::Catalog(CatalogEvent::Liked(like)) => {
                Effect::Like { product_id: like.product_id, sign: 1 }
            }
            Event::Catalog(CatalogEvent::Unliked(like)) => {
                Effect::Like { product_id: like.product_id, sign: -1 }
            }
            Event::Order(OrderEvent::Completed(order)) => Effect::Order { lines: order.lines, sign: 1 },
            Event::Order(OrderEvent::Cancelled(order)) => Effect::Order { lines: order.lines, sign: -1 },
            Event::View(ViewEvent::Viewed(view)) => Effect::View { product_id: view.product_id },
            Event::Stock(StockEvent::Depleted(_) | StockEvent::Replenished(_)) => return Ok(Decision::Skip),
        };
        Ok(Decision::Apply(Change { kind, hour, effect }))
    }

    async fn apply(
        &self,
        tx: &mut PgConnection,
        topic: &str,
        partition: i32,
        events: &[Change],
    ) -> Result<(), sqlx::Error> {
        let mut rest = events;
        while !rest.is_empty() {
            let (part, next) = rest.split_at(summable(rest));
            let folded = fold(part);
            let tally = Tally { topic, partition, applied: &folded.applied };
            store::add_counts(tx, &folded.totals(), &folded.hourly, &tally).await?;
            rest = next;
        }
        Ok(())
    }

    async fn committed(&self, _events: &[Change]) {}
}

fn hour_of(occurred_at: Option<DateTime<Utc>>) -> Result<i64, Refusal> {
    let refuse = |error: String| Refusal { reason: "event_time", error };
    let seconds = occurred_at.ok_or_else(|| refuse("no event time (ce_time)".to_owned()))?.timestamp();
    if (FIRST_EVENT_TIME..LAST_EVENT_TIME).contains(&seconds) {
        Ok(seconds - seconds.rem_euclid(SECONDS_OF_HOUR))
    } else {
        Err(refuse(format!("event time {seconds} s since 1970 is outside the years 2000 to 2099")))
    }
}

/// How many of the first events have amounts that add up to what an `i64` holds, whatever their signs: by the bounds of the
/// contract 9,000 at the least, and in practice all. Whether the stored sum holds them too, the database says.
fn summable(events: &[Change]) -> usize {
    let mut sum = 0_i64;
    let fits = |change: &&Change| {
        let Effect::Order { lines, .. } = &change.effect else { return true };
        let add = |sum: i64, line: &OrderLineV1| sum.checked_add(line.quantity * line.unit_price);
        lines.iter().try_fold(sum, add).inspect(|added| sum = *added).is_some()
    };
    events.iter().take_while(fits).count().max(1)
}

/// What a batch adds, sorted by product so that concurrent batches lock rows in one order.
#[derive(Debug, Default)]
struct Folded {
    hourly: Vec<Row>,
    applied: Vec<Applied>,
}

impl Folded {
    /// Sums over the hours of each product; `hourly` is sorted by product first.
    fn totals(&self) -> Vec<Row> {
        let mut totals: Vec<Row> = Vec::with_capacity(self.hourly.len());
        for row in &self.hourly {
            match totals.last_mut() {
                Some(last) if last.product_id == row.product_id => last.counts += row.counts,
                _ => totals.push(*row),
            }
        }
        totals
    }
}

fn fold(events: &[Change]) -> Folded {
    let mut counts: BTreeMap<(i64, i64), Counts> = BTreeMap::new();
    let mut applied: BTreeMap<&'static str, (i64, i64)> = BTreeMap::new();
    for change in events {
        let units = add(&mut counts, change);
        let tally = applied.entry(change.kind.as_str()).or_default();
        tally.0 += 1;
        tally.1 += units;
    }
    Folded {
        hourly: counts
            .into_iter()
            .map(|((product_id, hour), counts)| Row { product_id, hour, counts })
            .collect(),
        applied: applied.into_iter().map(|(kind, (events, units))| Applied { kind, events, units }).collect(),
    }
}

/// Adds one change and answers its units: 1, or an order's quantities.
fn add(counts: &mut BTreeMap<(i64, i64), Counts>, change: &Change) -> i64 {
    match &change.effect {
        Effect::Like { product_id, sign } => {
            counts.entry((*product_id, change.hour)).or_default().likes += sign;
            1
        }
        Effect::View { product_id } => {
            counts.entry((*product_id, change.hour)).or_default().views += 1;
            1
        }
        Effect::Order { lines, sign } => {
            for line in lines {
                let entry = counts.entry((line.product_id, change.hour)).or_default();
                entry.sales += sign * line.quantity;
                entry.amount += sign * line.quantity * line.unit_price;
            }
            lines.iter().map(|line| line.quantity).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use commerce_events::{ORDER_AMOUNT_MAX, OrderLineV1, QUANTITY_MAX, TypeName};
    use proptest::prelude::*;

    use super::{Change, Effect, fold, hour_of, summable};

    fn change() -> impl Strategy<Value = Change> {
        let product = 1_i64..20;
        let line = (product.clone(), 1_i64..100, 0_i64..5_000)
            .prop_map(|(product_id, quantity, unit_price)| OrderLineV1 { product_id, quantity, unit_price });
        let effect = prop_oneof![
            product
                .clone()
                .prop_map(|product_id| (TypeName::ProductLiked, Effect::Like { product_id, sign: 1 })),
            product
                .clone()
                .prop_map(|product_id| (TypeName::ProductUnliked, Effect::Like { product_id, sign: -1 })),
            product.prop_map(|product_id| (TypeName::ProductViewed, Effect::View { product_id })),
            prop::collection::vec(line.clone(), 1..6)
                .prop_map(|lines| (TypeName::OrderCompleted, Effect::Order { lines, sign: 1 })),
            prop::collection::vec(line, 1..6)
                .prop_map(|lines| (TypeName::OrderCancelled, Effect::Order { lines, sign: -1 })),
        ];
        ((0_i64..3).prop_map(|hour| hour * 3_600), effect).prop_map(|(hour, (kind, effect))| Change {
            kind,
            hour,
            effect,
        })
    }

    #[test]
    fn a_batch_whose_amounts_do_not_fit_is_added_in_parts_that_do() {
        let line = OrderLineV1 {
            product_id: 1,
            quantity: QUANTITY_MAX,
            unit_price: ORDER_AMOUNT_MAX / QUANTITY_MAX,
        };
        let effect = Effect::Order { lines: vec![line], sign: 1 };
        let order = Change { kind: TypeName::OrderCompleted, hour: 0, effect };
        let batch = vec![order; 20_000];
        let (mut rest, mut parts) = (&batch[..], Vec::new());
        while !rest.is_empty() {
            let (part, next) = rest.split_at(summable(rest));
            let amount = fold(part).totals()[0].counts.amount;
            assert_eq!(Some(amount), i64::try_from(part.len()).unwrap().checked_mul(ORDER_AMOUNT_MAX));
            parts.push(part.len());
            rest = next;
        }
        assert_eq!(parts, [9_223, 9_223, 1_554]);
    }

    proptest! {
        #[test]
        fn a_folded_batch_equals_its_events_one_by_one(events in prop::collection::vec(change(), 0..200)) {
            let mut expected: HashMap<i64, [i64; 4]> = HashMap::new();
            for event in &events {
                for row in fold(std::slice::from_ref(event)).totals() {
                    let sum = expected.entry(row.product_id).or_default();
                    sum[0] += row.counts.likes;
                    sum[1] += row.counts.sales;
                    sum[2] += row.counts.amount;
                    sum[3] += row.counts.views;
                }
            }
            let folded = fold(&events);
            let totals = folded.totals();
            prop_assert!(totals.is_sorted_by(|a, b| a.product_id < b.product_id));
            let actual: HashMap<i64, [i64; 4]> = totals
                .iter()
                .map(|row| (row.product_id, [row.counts.likes, row.counts.sales, row.counts.amount, row.counts.views]))
                .collect();
            prop_assert_eq!(actual, expected);
            let applied: i64 = folded.applied.iter().map(|tally| tally.events).sum();
            prop_assert_eq!(usize::try_from(applied).unwrap(), events.len());
        }
    }

    #[test]
    fn an_event_belongs_to_the_hour_of_its_own_time() {
        let time = "2010-12-01T08:59:59Z".parse().unwrap();
        assert_eq!(hour_of(Some(time)).unwrap() % 3_600, 0);
        assert_eq!(hour_of(Some(time)).unwrap(), time.timestamp() - 3_599);
        assert!(hour_of(Some("1999-12-31T23:59:59Z".parse().unwrap())).is_err());
        assert!(hour_of(None).is_err());
    }
}
