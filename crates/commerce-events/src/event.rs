//! The events as Rust types. Field order is wire order.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::json::objects;
#[cfg(feature = "schema")]
use crate::limits::{LINES_MAX, QUANTITY_MAX, UNIT_PRICE_MAX};
use crate::topic;

/// The wire name of an event type: the value of `ce_type`.
///
/// The name carries no version as long as the major version is 1; `ProductLiked.v2` would be another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TypeName {
    /// A buyer likes a product.
    ProductLiked,
    /// A buyer takes a like back.
    ProductUnliked,
    /// An order was placed and its stock reserved.
    OrderCompleted,
    /// A completed order was taken back.
    OrderCancelled,
    /// The last unit of a product was sold.
    StockDepleted,
    /// A product that was sold out is available again.
    StockReplenished,
    /// A product's page was shown.
    ProductViewed,
}

impl TypeName {
    /// Every type of the contract.
    pub const ALL: [Self; 7] = [
        Self::ProductLiked,
        Self::ProductUnliked,
        Self::OrderCompleted,
        Self::OrderCancelled,
        Self::StockDepleted,
        Self::StockReplenished,
        Self::ProductViewed,
    ];

    /// The name as it stands in `ce_type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProductLiked => "ProductLiked",
            Self::ProductUnliked => "ProductUnliked",
            Self::OrderCompleted => "OrderCompleted",
            Self::OrderCancelled => "OrderCancelled",
            Self::StockDepleted => "StockDepleted",
            Self::StockReplenished => "StockReplenished",
            Self::ProductViewed => "ProductViewed",
        }
    }

    /// The topic that carries the type, without prefix.
    #[must_use]
    pub const fn topic(self) -> &'static str {
        match self {
            Self::ProductLiked | Self::ProductUnliked => topic::CATALOG_EVENTS,
            Self::OrderCompleted | Self::OrderCancelled => topic::ORDER_EVENTS,
            Self::StockDepleted | Self::StockReplenished => topic::STOCK_EVENTS,
            Self::ProductViewed => topic::VIEW_EVENTS,
        }
    }

    /// What the event is about: `product` or `order`.
    #[must_use]
    pub const fn aggregate_type(self) -> &'static str {
        match self {
            Self::OrderCompleted | Self::OrderCancelled => "order",
            Self::ProductLiked
            | Self::ProductUnliked
            | Self::StockDepleted
            | Self::StockReplenished
            | Self::ProductViewed => "product",
        }
    }

    /// The type of a wire name; `None` for one that is not of this contract.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// `ProductLiked`, `ProductUnliked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProductLikeV1 {
    /// The product.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub product_id: i64,
    /// The buyer.
    pub user_id: i64,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct OrderLineV1 {
    /// The product.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub product_id: i64,
    /// Units.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = QUANTITY_MAX)))]
    pub quantity: i64,
    /// Price of one unit, in minor units of the currency.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = UNIT_PRICE_MAX)))]
    pub unit_price: i64,
}

/// `OrderCompleted`, `OrderCancelled`: every line, so that a consumer needs no other source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct OrderV1 {
    /// The order.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub order_id: i64,
    /// The buyer; absent in recorded history without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<i64>,
    /// The lines.
    #[serde(deserialize_with = "objects")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LINES_MAX)))]
    pub lines: Vec<OrderLineV1>,
}

/// `StockDepleted`, `StockReplenished`: the state after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StockV1 {
    /// The product.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub product_id: i64,
    /// Units in stock after the change.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub quantity: i64,
    /// The stock's version after the change: it grows with every change, so the highest tells the state.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub version: i64,
}

/// `ProductViewed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProductViewV1 {
    /// The product.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub product_id: i64,
    /// The buyer; absent when nobody is signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<i64>,
}

/// What [`topic::CATALOG_EVENTS`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogEvent {
    /// A like given.
    Liked(ProductLikeV1),
    /// A like taken back.
    Unliked(ProductLikeV1),
}

/// What [`topic::ORDER_EVENTS`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderEvent {
    /// An order placed.
    Completed(OrderV1),
    /// An order taken back.
    Cancelled(OrderV1),
}

/// What [`topic::STOCK_EVENTS`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockEvent {
    /// Nothing left.
    Depleted(StockV1),
    /// Available again.
    Replenished(StockV1),
}

/// What [`topic::VIEW_EVENTS`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewEvent {
    /// A product's page was shown.
    Viewed(ProductViewV1),
}

/// Any event of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Of the catalog topic.
    Catalog(CatalogEvent),
    /// Of the order topic.
    Order(OrderEvent),
    /// Of the stock topic.
    Stock(StockEvent),
    /// Of the view topic.
    View(ViewEvent),
}

impl Event {
    /// The wire name.
    #[must_use]
    pub const fn type_name(&self) -> TypeName {
        match self {
            Self::Catalog(CatalogEvent::Liked(_)) => TypeName::ProductLiked,
            Self::Catalog(CatalogEvent::Unliked(_)) => TypeName::ProductUnliked,
            Self::Order(OrderEvent::Completed(_)) => TypeName::OrderCompleted,
            Self::Order(OrderEvent::Cancelled(_)) => TypeName::OrderCancelled,
            Self::Stock(StockEvent::Depleted(_)) => TypeName::StockDepleted,
            Self::Stock(StockEvent::Replenished(_)) => TypeName::StockReplenished,
            Self::View(ViewEvent::Viewed(_)) => TypeName::ProductViewed,
        }
    }

    /// The id of the aggregate: aggregate id and partition key alike.
    #[must_use]
    pub const fn aggregate_id(&self) -> i64 {
        match self {
            Self::Catalog(CatalogEvent::Liked(like) | CatalogEvent::Unliked(like)) => like.product_id,
            Self::Order(OrderEvent::Completed(order) | OrderEvent::Cancelled(order)) => order.order_id,
            Self::Stock(StockEvent::Depleted(stock) | StockEvent::Replenished(stock)) => stock.product_id,
            Self::View(ViewEvent::Viewed(view)) => view.product_id,
        }
    }

    /// The aggregate's version, where it has one.
    #[must_use]
    pub const fn aggregate_version(&self) -> Option<i64> {
        match self {
            Self::Stock(StockEvent::Depleted(stock) | StockEvent::Replenished(stock)) => Some(stock.version),
            Self::Catalog(_) | Self::Order(_) | Self::View(_) => None,
        }
    }

    /// The JSON payload, compact, as it goes on the wire.
    ///
    /// # Errors
    /// Never for the types of this crate; the error is serde's own.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Catalog(CatalogEvent::Liked(like) | CatalogEvent::Unliked(like)) => {
                serde_json::to_vec(like)
            }
            Self::Order(OrderEvent::Completed(order) | OrderEvent::Cancelled(order)) => {
                serde_json::to_vec(order)
            }
            Self::Stock(StockEvent::Depleted(stock) | StockEvent::Replenished(stock)) => {
                serde_json::to_vec(stock)
            }
            Self::View(ViewEvent::Viewed(view)) => serde_json::to_vec(view),
        }
    }
}
