//! Placing orders: all lines of each or none, its stock reserved, its events appended. Orders that wait together are placed
//! in one transaction, and each gets the answer that it would have got alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use commerce_events::{Event, OrderEvent, OrderV1};
use sha2::{Digest, Sha256};

use super::shift_stock::shift_stock;
use super::{Context, Shop, distinct};
use crate::domain::order::{Wanted, stock_event};
use crate::domain::placing::{Asked, Earlier, Offer, Verdict, decide_placing};
use crate::domain::{InvalidInput, Line};
use crate::error::ApiError;
use crate::event_log::Occurrence;
use crate::group_commit::{Group, GroupError};
use crate::store::orders::{KEY_TAKEN, NewOrder, find_order, find_responses, insert_orders, list_lines};
use crate::store::stock::{Locked, Shift, lock_stock_and_prices};
use crate::store::{Session, StoreError};

/// An order as it was placed: the same answer however often it is asked for with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) order_id: i64,
    pub(crate) total_amount: i64,
    pub(crate) ordered_at: DateTime<Utc>,
    pub(crate) lines: Vec<Line>,
}

/// An order that is asked for; its lines are merged and in product order.
#[derive(Debug, Clone)]
pub(crate) struct PlaceOrder {
    pub(crate) context: Context,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) key: Option<String>,
}

impl PlaceOrder {
    fn asked<'a>(&'a self, digest: &'a [u8]) -> Asked<'a> {
        let key = self.key.as_deref().map(|key| (self.context.user_id, key));
        Asked { wanted: &self.wanted, key, digest }
    }
}

/// Orders that wait.
pub(crate) struct OrderGroup(pub(crate) Arc<Shop>);

type Answer = Result<Placed, ApiError>;

impl Group for OrderGroup {
    const KIND: &'static str = "order";
    const NEEDS_CALLERS: bool = true;
    type Command = PlaceOrder;
    type Answer = Answer;

    async fn execute(&self, session: Session, orders: &[PlaceOrder]) -> Result<Vec<Answer>, GroupError> {
        place_orders(&self.0, session, orders).await
    }

    fn failed(error: ApiError) -> Answer {
        Err(error)
    }
}

async fn place_orders(
    shop: &Shop,
    mut session: Session,
    orders: &[PlaceOrder],
) -> Result<Vec<Answer>, GroupError> {
    let products = distinct(orders.iter().flat_map(|order| &order.wanted).map(|line| line.product_id));
    let (locked, prices) = lock_stock_and_prices(&mut session, &products).await?;
    // After the locks: a twin of a request that was faster has committed by now, and its answer is the answer, also when
    // it took the last unit.
    let earlier = load_earlier(&mut session, orders).await?;
    let offer = |stock: &Locked| {
        let price = *prices.get(&stock.product_id)?;
        Some((stock.product_id, Offer { quantity: stock.quantity, price }))
    };
    let mut offers: BTreeMap<i64, Offer> = locked.iter().filter_map(offer).collect();
    let digests: Vec<Vec<u8>> = orders.iter().map(|order| digest(&order.wanted)).collect();
    let asked: Vec<Asked<'_>> =
        orders.iter().zip(&digests).map(|(order, digest)| order.asked(digest)).collect();
    let verdicts = decide_placing(&asked, &mut offers, &earlier);
    let written = write(&mut session, orders, &digests, &verdicts).await?;
    let answers = answer(&mut session, orders, verdicts, &written.ids).await?;
    if written.occurrences.is_empty() {
        session.roll_back().await;
    } else {
        shop.commit_group(session, &written.occurrences).await?;
    }
    Ok(answers)
}

/// Digests and orders of earlier requests with the keys of these.
async fn load_earlier(session: &mut Session, orders: &[PlaceOrder]) -> Result<Earlier, StoreError> {
    let keyed = orders.iter().filter_map(|order| Some((order.context.user_id, order.key.as_deref()?)));
    let (users, keys): (Vec<i64>, Vec<&str>) = keyed.unzip();
    if keys.is_empty() {
        return Ok(Earlier::new());
    }
    let found = find_responses(session, &users, &keys).await?;
    Ok(found.into_iter().map(|(user, key, digest, order_id)| ((user, key), (digest, order_id))).collect())
}

/// What was written.
#[derive(Default)]
struct Written<'a> {
    /// Ids of the orders that are placed, by their place in the group.
    ids: HashMap<usize, i64>,
    occurrences: Vec<Occurrence<'a>>,
}

/// Writes the orders that are placed, and their stock.
async fn write<'a>(
    session: &mut Session,
    orders: &'a [PlaceOrder],
    digests: &[Vec<u8>],
    verdicts: &[Verdict],
) -> Result<Written<'a>, GroupError> {
    let mut placed = Vec::new();
    let mut units: BTreeMap<i64, i64> = BTreeMap::new();
    // Who took from a product last is who emptied it.
    let mut last: HashMap<i64, &'a Context> = HashMap::new();
    for (index, verdict) in verdicts.iter().enumerate() {
        let Verdict::Place { lines, total_amount } = verdict else { continue };
        let PlaceOrder { context, key, .. } = &orders[index];
        for line in lines {
            *units.entry(line.product_id).or_default() -= line.quantity;
            last.insert(line.product_id, context);
        }
        let order = NewOrder {
            user_id: context.user_id,
            total_amount: *total_amount,
            ordered_at: context.now,
            lines,
            idempotency: key.as_deref().map(|key| (key, digests[index].as_slice())),
        };
        placed.push((index, order));
    }
    if placed.is_empty() {
        return Ok(Written::default());
    }
    let shifts: Vec<Shift> =
        units.into_iter().map(|(product_id, units)| Shift { product_id, units }).collect();
    let changed = shift_stock(session, &shifts).await?;
    let (indexes, rows): (Vec<usize>, Vec<NewOrder<'_>>) = placed.into_iter().unzip();
    let ids = insert_orders(session, &rows).await.map_err(|error| match error.is_refusal_of(KEY_TAKEN) {
        true => GroupError::Raced(error.into()),
        false => error.into(),
    })?;
    if ids.len() != rows.len() {
        return Err(ApiError::Internal("an order was not written".into()).into());
    }
    let mut occurrences: Vec<Occurrence<'a>> = Vec::with_capacity(rows.len());
    for ((index, row), id) in indexes.iter().zip(&rows).zip(&ids) {
        occurrences.push(orders[*index].context.occurrence(completed(*id, row)));
    }
    for change in &changed {
        let context = last[&change.product_id];
        occurrences.extend(stock_event(change).map(|event| context.occurrence(Event::Stock(event))));
    }
    Ok(Written { ids: indexes.into_iter().zip(ids).collect(), occurrences })
}

fn completed(order_id: i64, order: &NewOrder<'_>) -> Event {
    let lines = order.lines.iter().map(Into::into).collect();
    Event::Order(OrderEvent::Completed(OrderV1 { order_id, user_id: Some(order.user_id), lines }))
}

/// What each caller is told.
async fn answer(
    session: &mut Session,
    orders: &[PlaceOrder],
    verdicts: Vec<Verdict>,
    ids: &HashMap<usize, i64>,
) -> Result<Vec<Answer>, ApiError> {
    let mut answers: Vec<Answer> = Vec::with_capacity(orders.len());
    for (index, verdict) in verdicts.into_iter().enumerate() {
        let context = &orders[index].context;
        let answer = match verdict {
            Verdict::Place { lines, total_amount } => {
                let order_id = ids[&index];
                Ok(Placed { order_id, total_amount, ordered_at: context.now, lines })
            }
            Verdict::Earlier(order_id) => load_placed(session, context.user_id, order_id).await,
            Verdict::Same(first) => match &answers[first] {
                Ok(placed) => Ok(placed.clone()),
                Err(_) => Err(ApiError::Internal("the first order of a key was not placed".into())),
            },
            Verdict::KeyReused => Err(ApiError::IdempotencyKeyReused),
            Verdict::Unknown(product_ids) => Err(ApiError::NoProduct { product_ids }),
            Verdict::Short(product_ids) => Err(ApiError::SoldOut { product_ids }),
            Verdict::TotalTooLarge => Err(InvalidInput::Total.into()),
        };
        answers.push(answer);
    }
    Ok(answers)
}

/// An order as it was placed.
async fn load_placed(session: &mut Session, user_id: i64, order_id: i64) -> Result<Placed, ApiError> {
    let order = find_order(session, user_id, order_id).await?.ok_or(ApiError::NoOrder)?;
    let lines = list_lines(session, order_id).await?;
    Ok(Placed { order_id, total_amount: order.total_amount, ordered_at: order.ordered_at, lines })
}

/// What makes two requests the same: products and quantities, not how the lines were written down.
fn digest(wanted: &[Wanted]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for line in wanted {
        hasher.update(line.product_id.to_be_bytes());
        hasher.update(line.quantity.to_be_bytes());
    }
    hasher.finalize().to_vec()
}
