//! An order: all its lines or none, its stock reserved, its events appended, in one transaction.

use chrono::{DateTime, Utc};
use commerce_events::{Event, OrderEvent, OrderV1};
use sha2::{Digest, Sha256};

use super::{Context, Shop, stock_events};
use crate::domain::Line;
use crate::domain::order::{StockChange, Wanted, total};
use crate::error::ApiError;
use crate::store::orders::{KEY_TAKEN, NewOrder, find_order, find_response, insert_order, list_lines};
use crate::store::stock::{Reservation, reserve};
use crate::store::{Session, StoreError};

/// An order as it was placed: the same answer however often it is asked for with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) order_id: i64,
    pub(crate) total_amount: i64,
    pub(crate) ordered_at: DateTime<Utc>,
    pub(crate) lines: Vec<Line>,
}

/// Places an order of `wanted`, which is merged and in product order. With a key, a repetition answers the first
/// order; the key of another request is refused.
pub(crate) async fn place_order(
    shop: &Shop,
    context: &Context,
    wanted: &[Wanted],
    key: Option<&str>,
) -> Result<Placed, ApiError> {
    let digest = digest(wanted);
    let mut session = Session::begin(&shop.pool).await?;
    if let Some(key) = key
        && let Some(earlier) = find_earlier(&mut session, context.user_id, key, &digest).await.transpose()
    {
        session.roll_back().await;
        return earlier;
    }
    let reservations = reserve(&mut session, wanted).await?;
    let lines = match decide_lines(wanted, &reservations) {
        Ok(lines) => lines,
        Err(refusal) => {
            session.roll_back().await;
            return Err(refusal);
        }
    };
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
    let changes: Vec<StockChange> =
        reservations.iter().filter_map(|reservation| reservation.change).collect();
    let events =
        std::iter::once(Event::Order(OrderEvent::Completed(completed))).chain(stock_events(&changes));
    shop.commit(session, context, events).await?;
    Ok(Placed { order_id, total_amount, ordered_at: context.now, lines })
}

/// Every line with its price, unless a product is unknown or short.
fn decide_lines(wanted: &[Wanted], reservations: &[Reservation]) -> Result<Vec<Line>, ApiError> {
    let ids_where = |missing: fn(&Reservation) -> bool| -> Vec<i64> {
        reservations.iter().filter(|one| missing(one)).map(|one| one.product_id).collect()
    };
    let unknown = ids_where(|one| one.unit_price.is_none());
    if !unknown.is_empty() {
        return Err(ApiError::NoProduct { product_ids: unknown });
    }
    let short = ids_where(|one| one.change.is_none());
    if !short.is_empty() {
        return Err(ApiError::SoldOut { product_ids: short });
    }
    // Both are in product order.
    let line = |(wanted, reservation): (&Wanted, &Reservation)| Line {
        product_id: wanted.product_id,
        quantity: wanted.quantity,
        unit_price: reservation.unit_price.unwrap_or_default(),
    };
    Ok(wanted.iter().zip(reservations).map(line).collect())
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
    let order = find_order(session, user_id, order_id).await?.ok_or(ApiError::NoOrder)?;
    let lines = list_lines(session, order_id).await?;
    Ok(Some(Placed { order_id, total_amount: order.total_amount, ordered_at: order.ordered_at, lines }))
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
fn digest(wanted: &[Wanted]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for line in wanted {
        hasher.update(line.product_id.to_be_bytes());
        hasher.update(line.quantity.to_be_bytes());
    }
    hasher.finalize().to_vec()
}
