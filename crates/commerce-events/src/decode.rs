//! From bytes to an event: everything that is wrong with a payload is found here, before any effect.

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::event::{
    CatalogEvent, Event, OrderEvent, OrderV1, ProductLikeV1, ProductViewV1, StockEvent, StockV1, TypeName,
    ViewEvent,
};
use crate::json;
use crate::limits::{LINES_MAX, ORDER_AMOUNT_MAX, QUANTITY_MAX, UNIT_PRICE_MAX};

/// Why a payload is not an event of the contract. None of these can succeed on a second try.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The type is not of this contract.
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    /// The type is of this contract in a major version that this reader does not know.
    #[error("unknown major version {version:?} of event type {type_name:?}")]
    UnknownVersion {
        /// The type without its version.
        type_name: String,
        /// The version as written.
        version: String,
    },
    /// The record has no payload.
    #[error("no payload")]
    Empty,
    /// Not JSON, or not of the type's shape.
    #[error("payload is not a {type_name}")]
    Malformed {
        /// The type that the record claims.
        type_name: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Well formed, but a value lies outside the contract's bounds.
    #[error("{field} is {value}, allowed is {allowed}")]
    OutOfBounds {
        /// The field's path.
        field: &'static str,
        /// What stands there.
        value: i64,
        /// The bounds.
        allowed: &'static str,
    },
    /// The record's key is not the aggregate's id: order per key would not hold.
    #[error("record key does not name the aggregate {expected}")]
    KeyMismatch {
        /// The aggregate's id in the payload.
        expected: i64,
    },
}

/// Whether `name` is an event type of this contract, in a version that this reader knows.
#[must_use]
pub fn is_known_type(name: &str) -> bool {
    TypeName::find(name).is_some()
}

/// Decodes and validates the payload of a record of type `type_name` with key `key`.
///
/// # Errors
/// See [`DecodeError`]; the same input always gives the same answer.
pub fn decode(type_name: &str, key: Option<&[u8]>, payload: Option<&[u8]>) -> Result<Event, DecodeError> {
    let known = find_type(type_name)?;
    let payload = payload.filter(|bytes| !bytes.is_empty()).ok_or(DecodeError::Empty)?;
    let event = parse(known, payload)?;
    validate(&event)?;
    let expected = event.aggregate_id();
    if key.and_then(id_of_key) == Some(expected) {
        Ok(event)
    } else {
        Err(DecodeError::KeyMismatch { expected })
    }
}

/// The id that a key names in the one way to write it: `7`, `07` and `+7` are three keys, perhaps in three partitions.
fn id_of_key(key: &[u8]) -> Option<i64> {
    let first = key.first()?;
    let text = matches!(first, b'1'..=b'9').then(|| std::str::from_utf8(key).ok())??;
    text.parse().ok()
}

fn find_type(type_name: &str) -> Result<TypeName, DecodeError> {
    if let Some(known) = TypeName::find(type_name) {
        return Ok(known);
    }
    match type_name.rsplit_once(".v") {
        Some((base, version)) if TypeName::find(base).is_some() => {
            Err(DecodeError::UnknownVersion { type_name: base.to_owned(), version: version.to_owned() })
        }
        _ => Err(DecodeError::UnknownType(type_name.to_owned())),
    }
}

fn parse(known: TypeName, payload: &[u8]) -> Result<Event, DecodeError> {
    fn read<T: DeserializeOwned>(known: TypeName, payload: &[u8]) -> Result<T, DecodeError> {
        json::read(payload).map_err(|source| DecodeError::Malformed { type_name: known.as_str(), source })
    }
    Ok(match known {
        TypeName::ProductLiked => Event::Catalog(CatalogEvent::Liked(read::<ProductLikeV1>(known, payload)?)),
        TypeName::ProductUnliked => {
            Event::Catalog(CatalogEvent::Unliked(read::<ProductLikeV1>(known, payload)?))
        }
        TypeName::OrderCompleted => Event::Order(OrderEvent::Completed(read::<OrderV1>(known, payload)?)),
        TypeName::OrderCancelled => Event::Order(OrderEvent::Cancelled(read::<OrderV1>(known, payload)?)),
        TypeName::StockDepleted => Event::Stock(StockEvent::Depleted(read::<StockV1>(known, payload)?)),
        TypeName::StockReplenished => Event::Stock(StockEvent::Replenished(read::<StockV1>(known, payload)?)),
        TypeName::ProductViewed => Event::View(ViewEvent::Viewed(read::<ProductViewV1>(known, payload)?)),
    })
}

fn validate(event: &Event) -> Result<(), DecodeError> {
    match event {
        Event::Catalog(CatalogEvent::Liked(like) | CatalogEvent::Unliked(like)) => {
            positive("productId", like.product_id)
        }
        Event::Order(OrderEvent::Completed(order) | OrderEvent::Cancelled(order)) => validate_order(order),
        Event::Stock(StockEvent::Depleted(stock)) => {
            validate_stock(stock)?;
            bounded("quantity", stock.quantity, 0, 0, "0")
        }
        Event::Stock(StockEvent::Replenished(stock)) => {
            validate_stock(stock)?;
            bounded("quantity", stock.quantity, 1, i64::MAX, "at least 1")
        }
        Event::View(ViewEvent::Viewed(view)) => positive("productId", view.product_id),
    }
}

fn validate_stock(stock: &StockV1) -> Result<(), DecodeError> {
    positive("productId", stock.product_id)?;
    positive("version", stock.version)
}

fn validate_order(order: &OrderV1) -> Result<(), DecodeError> {
    positive("orderId", order.order_id)?;
    let lines = i64::try_from(order.lines.len()).unwrap_or(i64::MAX);
    let lines_max = i64::try_from(LINES_MAX).unwrap_or(i64::MAX);
    bounded("lines", lines, 1, lines_max, "1 to 2000 lines")?;
    for line in &order.lines {
        positive("lines.productId", line.product_id)?;
        bounded("lines.quantity", line.quantity, 1, QUANTITY_MAX, "1 to 1000000")?;
        bounded("lines.unitPrice", line.unit_price, 0, UNIT_PRICE_MAX, "0 to 1000000000")?;
    }
    let amount = order.lines.iter().map(|line| line.quantity * line.unit_price).sum();
    bounded("order amount", amount, 0, ORDER_AMOUNT_MAX, "0 to 1000000000000000")
}

fn positive(field: &'static str, value: i64) -> Result<(), DecodeError> {
    bounded(field, value, 1, i64::MAX, "at least 1")
}

fn bounded(
    field: &'static str,
    value: i64,
    min: i64,
    max: i64,
    allowed: &'static str,
) -> Result<(), DecodeError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(DecodeError::OutOfBounds { field, value, allowed })
    }
}
