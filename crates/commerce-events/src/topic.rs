//! Topic names, before the environment's prefix (`kafka.topic_prefix`) is put in front.

/// `ProductLiked`, `ProductUnliked`; key: product id.
pub const CATALOG_EVENTS: &str = "catalog-events";
/// `OrderCompleted`, `OrderCancelled`; key: order id.
pub const ORDER_EVENTS: &str = "order-events";
/// `StockDepleted`, `StockReplenished`; key: product id. Its own topic and consumer group, so that a backlog of
/// views never delays "sold out".
pub const STOCK_EVENTS: &str = "stock-events";
/// `ProductViewed`; key: product id.
pub const VIEW_EVENTS: &str = "view-events";

/// Appended to a topic's name for its dead letters.
pub const DEAD_LETTER_SUFFIX: &str = "-dlt";

/// Every topic that carries events.
pub const TOPICS: [&str; 4] = [CATALOG_EVENTS, ORDER_EVENTS, STOCK_EVENTS, VIEW_EVENTS];
