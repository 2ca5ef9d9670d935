//! Orders that wait together: one transaction, an answer for each, as if each had been placed alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use commerce_events::{Event, OrderEvent, OrderV1};

use super::place_order::{Placed, digest, load_placed, place_order};
use super::shift_stock::{Changed, shift_stock, stock_events};
use super::{Context, GroupError, Shop, commit};
use crate::domain::InvalidInput;
use crate::domain::order::Wanted;
use crate::domain::placing::{Asked, Earlier, Offer, Verdict, decide_placing};
use crate::error::{ApiError, Chain};
use crate::event_log::Occurrence;
use crate::group_commit::Group;
use crate::store::orders::{NewOrder, find_responses, insert_orders};
use crate::store::products::list_prices;
use crate::store::stock::{Locked, Shift, lock_stock};
use crate::store::{Session, StoreError};

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

    async fn together(&self, session: Session, orders: &[PlaceOrder]) -> Option<Vec<Answer>> {
        match place_together(&self.0, session, orders).await {
            Ok(answers) => Some(answers),
            Err(GroupError::Unknown(error)) => {
                Some(orders.iter().map(|_| Self::away(Arc::clone(&error))).collect())
            }
            // One of them is to blame, for example because another process took its key meanwhile, or the server went away,
            // which each of them will be told.
            Err(GroupError::Undone(error)) => {
                tracing::debug!(error = %Chain(&error), orders = orders.len(), "orders are placed one by one");
                None
            }
        }
    }

    async fn alone(&self, order: &PlaceOrder) -> Answer {
        place_order(&self.0, order).await
    }

    fn away(error: Arc<StoreError>) -> Answer {
        Err(error.into())
    }
}

async fn place_together(
    shop: &Shop,
    mut session: Session,
    orders: &[PlaceOrder],
) -> Result<Vec<Answer>, GroupError> {
    let mut products: Vec<i64> =
        orders.iter().flat_map(|order| &order.wanted).map(|line| line.product_id).collect();
    products.sort_unstable();
    products.dedup();
    let locked = lock_stock(&mut session, &products).await?;
    // After the locks: a twin of a request that was faster has committed by now, and its answer is the answer, also when
    // it took the last unit.
    let earlier = load_earlier(&mut session, orders).await?;
    let prices: HashMap<i64, i64> = list_prices(&mut session, &products).await?.into_iter().collect();
    let offer = |stock: &Locked| {
        let price = *prices.get(&stock.product_id)?;
        Some((stock.product_id, Offer { quantity: stock.quantity, price }))
    };
    let mut offers: BTreeMap<i64, Offer> = locked.iter().filter_map(offer).collect();
    let digests: Vec<Vec<u8>> = orders.iter().map(|order| digest(&order.wanted)).collect();
    let asked: Vec<Asked<'_>> =
        orders.iter().zip(&digests).map(|(order, digest)| order.asked(digest)).collect();
    let verdicts = decide_placing(&asked, &mut offers, &earlier);
    let ids = write(shop, &mut session, orders, &digests, &verdicts).await?;
    let answers = answer(&mut session, orders, verdicts, &ids).await?;
    if ids.is_empty() {
        session.roll_back().await;
    } else {
        commit(shop, session).await?;
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

/// Writes the orders that are placed, their stock and their events; answers their ids by their place in the group.
async fn write(
    shop: &Shop,
    session: &mut Session,
    orders: &[PlaceOrder],
    digests: &[Vec<u8>],
    verdicts: &[Verdict],
) -> Result<HashMap<usize, i64>, ApiError> {
    let mut placed = Vec::new();
    let mut units: BTreeMap<i64, i64> = BTreeMap::new();
    // Who took from a product last is who emptied it.
    let mut last: HashMap<i64, &Context> = HashMap::new();
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
        return Ok(HashMap::new());
    }
    let shifts: Vec<Shift> =
        units.into_iter().map(|(product_id, units)| Shift { product_id, units }).collect();
    let changed = shift_stock(session, &shifts).await?;
    let (indexes, rows): (Vec<usize>, Vec<NewOrder<'_>>) = placed.into_iter().unzip();
    let ids = insert_orders(session, &rows).await?;
    if ids.len() != rows.len() {
        return Err(ApiError::Internal("an order was not written".into()));
    }
    let mut occurrences: Vec<Occurrence<'_>> = Vec::with_capacity(rows.len());
    for ((index, row), id) in indexes.iter().zip(&rows).zip(&ids) {
        occurrences.push(occurrence(&orders[*index].context, completed(*id, row)));
    }
    for change in &changed {
        let context = last[&change.change.product_id];
        occurrences.extend(depleted(change).map(|event| occurrence(context, event)));
    }
    shop.log.append(session, &occurrences).await?;
    Ok(indexes.into_iter().zip(ids).collect())
}

fn completed(order_id: i64, order: &NewOrder<'_>) -> Event {
    let lines = order.lines.iter().map(Into::into).collect();
    Event::Order(OrderEvent::Completed(OrderV1 { order_id, user_id: Some(order.user_id), lines }))
}

fn depleted(changed: &Changed) -> Option<Event> {
    stock_events(std::slice::from_ref(changed)).next()
}

fn occurrence(context: &Context, event: Event) -> Occurrence<'_> {
    Occurrence { event, occurred_at: context.now, traceparent: context.traceparent.as_deref() }
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
