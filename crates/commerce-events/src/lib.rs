//! The published contract of the shop's events: types, topics, keys and their JSON.
//!
//! Invariants: a type, once published, only gains optional fields; a breaking change is a new major version in
//! [`TypeName`]; unknown fields are ignored by readers. The golden files under `golden/` pin every byte, those under `schemas/` what
//! is allowed, and `schemas/published/` what has been promised.
//! Deliberately absent: transport (crates `outbox` and `inbox`) and storage.

mod decode;
mod event;
pub mod json;
mod limits;
#[cfg(feature = "schema")]
pub mod schema;
mod topic;

pub use decode::{DecodeError, decode, is_known_type};
pub use event::{
    CatalogEvent, Event, OrderEvent, OrderLineV1, OrderV1, ProductLikeV1, ProductViewV1, StockEvent, StockV1,
    TypeName, ViewEvent,
};
pub use limits::{LINES_MAX, NESTING_MAX, ORDER_AMOUNT_MAX, QUANTITY_MAX, UNIT_PRICE_MAX};
pub use topic::{CATALOG_EVENTS, DEAD_LETTER_SUFFIX, ORDER_EVENTS, STOCK_EVENTS, TOPICS, VIEW_EVENTS};
