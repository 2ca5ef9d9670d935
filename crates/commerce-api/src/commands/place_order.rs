//! An order: all its lines or none, its stock reserved, its events appended, in one transaction.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use commerce_events::{Event, OrderEvent, OrderV1};
use sha2::{Digest, Sha256};

use super::Shop;
use super::place_orders::PlaceOrder;
use super::shift_stock::{shift_stock, stock_events};
use crate::domain::Line;
use crate::domain::order::{Wanted, total};
use crate::error::ApiError;
use crate::store::orders::{KEY_TAKEN, NewOrder, find_order, find_response, insert_order, list_lines};
use crate::store::stock::{Locked, Shift, lock_stock};
use crate::store::{Session, StoreError};

/// An order as it was placed: the same answer however often it is asked for with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) order_id: i64,
    pub(crate) total_amount: i64,
    pub(crate) ordered_at: DateTime<Utc>,
    pub(crate) lines: Vec<Line>,
}

/// Places one order in a transaction of its own. With a key, a repetition answers the first order; the key of another
/// request is refused.
pub(crate) async fn place_order(shop: &Shop, order: &PlaceOrder) -> Result<Placed, ApiError> {
    let PlaceOrder { context, wanted, key } = order;
    let key = key.as_deref();
    let digest = digest(wanted);
    let mut session = Session::begin(&shop.pool).await?;
    let products: Vec<i64> = wanted.iter().map(|line| line.product_id).collect();
    let locked = lock_stock(&mut session, &products).await?;
    // After the locks: a twin of this request that was faster has committed by now, and its answer is the answer,
    // also when it took the last unit.
    if let Some(key) = key
        && let Some(earlier) = find_earlier(&mut session, context.user_id, key, &digest).await.transpose()
    {
        session.roll_back().await;
        return earlier;
    }
    if let Err(refusal) = check_stock(wanted, &locked) {
        session.roll_back().await;
        return Err(refusal);
    }
    let shifts: Vec<Shift> =
        wanted.iter().map(|line| Shift { product_id: line.product_id, units: -line.quantity }).collect();
    let changed = shift_stock(&mut session, &shifts).await?;
    // Both are in product order.
    let lines: Vec<Line> = wanted
        .iter()
        .zip(&changed)
        .map(|(line, changed)| Line {
            product_id: line.product_id,
            quantity: line.quantity,
            unit_price: changed.unit_price,
        })
        .collect();
    let total_amount = total(&lines)?;
    let order = NewOrder {
        user_id: context.user_id,
        total_amount,
        ordered_at: context.now,
        lines: &lines,
        idempotency: key.map(|key| (key, digest.as_slice())),
    };
    let order_id = match insert_order(&mut session, &order).await {
        Ok(order_id) => order_id,
        Err(error) => return after_lost_race(shop, session, error, context.user_id, key, &digest).await,
    };
    let completed =
        OrderV1 { order_id, user_id: Some(context.user_id), lines: lines.iter().map(Into::into).collect() };
    let events =
        std::iter::once(Event::Order(OrderEvent::Completed(completed))).chain(stock_events(&changed));
    shop.commit(session, context, events).await?;
    Ok(Placed { order_id, total_amount, ordered_at: context.now, lines })
}

/// Refuses unless every product exists and has enough.
fn check_stock(wanted: &[Wanted], locked: &[Locked]) -> Result<(), ApiError> {
    let quantities: HashMap<i64, i64> =
        locked.iter().map(|stock| (stock.product_id, stock.quantity)).collect();
    let ids_where = |refused: &dyn Fn(&Wanted) -> bool| -> Vec<i64> {
        wanted.iter().filter(|line| refused(line)).map(|line| line.product_id).collect()
    };
    let unknown = ids_where(&|line| !quantities.contains_key(&line.product_id));
    if !unknown.is_empty() {
        return Err(ApiError::NoProduct { product_ids: unknown });
    }
    let short = ids_where(&|line| quantities.get(&line.product_id).is_none_or(|left| *left < line.quantity));
    if short.is_empty() { Ok(()) } else { Err(ApiError::SoldOut { product_ids: short }) }
}

/// The answer to an earlier request with the same key, if there was one.
async fn find_earlier(
    session: &mut Session,
    user_id: i64,
    key: &str,
    digest: &[u8],
) -> Result<Option<Placed>, ApiError> {
    let Some((earlier, order_id)) = find_response(session, user_id, key).await? else { return Ok(None) };
    if earlier != digest {
        return Err(ApiError::IdempotencyKeyReused);
    }
    load_placed(session, user_id, order_id).await.map(Some)
}

/// An order as it was placed.
pub(super) async fn load_placed(
    session: &mut Session,
    user_id: i64,
    order_id: i64,
) -> Result<Placed, ApiError> {
    let order = find_order(session, user_id, order_id).await?.ok_or(ApiError::NoOrder)?;
    let lines = list_lines(session, order_id).await?;
    Ok(Placed { order_id, total_amount: order.total_amount, ordered_at: order.ordered_at, lines })
}

/// The same key was used while this request waited for stock: everything it did is given up, and the winner's answer
/// is the answer.
async fn after_lost_race(
    shop: &Shop,
    session: Session,
    error: StoreError,
    user_id: i64,
    key: Option<&str>,
    digest: &[u8],
) -> Result<Placed, ApiError> {
    let Some(key) = key.filter(|_| error.is_refusal_of(KEY_TAKEN)) else { return Err(error.into()) };
    session.roll_back().await;
    let mut session = Session::open(&shop.pool).await?;
    let earlier = find_earlier(&mut session, user_id, key, digest).await;
    session.release();
    earlier?.ok_or_else(|| error.into())
}

/// What makes two requests the same: products and quantities, not how the lines were written down.
pub(super) fn digest(wanted: &[Wanted]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for line in wanted {
        hasher.update(line.product_id.to_be_bytes());
        hasher.update(line.quantity.to_be_bytes());
    }
    hasher.finalize().to_vec()
}
