//! The contract: every byte of every type, what a reader refuses, and the same for machines.

mod agreement;
mod compatibility;
mod contract;
mod hostile;
mod schema;

use std::path::{Path, PathBuf};

use commerce_events::{
    CatalogEvent, Event, OrderEvent, OrderLineV1, OrderV1, ProductLikeV1, ProductViewV1, StockEvent, StockV1,
    ViewEvent,
};

/// One event of each type, in the order of `TypeName::ALL`.
fn samples() -> Vec<Event> {
    let like = ProductLikeV1 { product_id: 42, user_id: 7 };
    let order = OrderV1 {
        order_id: 9_001,
        user_id: Some(7),
        lines: vec![
            OrderLineV1 { product_id: 42, quantity: 2, unit_price: 12_900 },
            OrderLineV1 { product_id: 43, quantity: 1, unit_price: 0 },
        ],
    };
    vec![
        Event::Catalog(CatalogEvent::Liked(like.clone())),
        Event::Catalog(CatalogEvent::Unliked(like)),
        Event::Order(OrderEvent::Completed(order.clone())),
        Event::Order(OrderEvent::Cancelled(OrderV1 { user_id: None, ..order })),
        Event::Stock(StockEvent::Depleted(StockV1 { product_id: 42, quantity: 0, version: 17 })),
        Event::Stock(StockEvent::Replenished(StockV1 { product_id: 42, quantity: 5, version: 18 })),
        Event::View(ViewEvent::Viewed(ProductViewV1 { product_id: 42, user_id: Some(7) })),
    ]
}

/// A file of this crate.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let read = std::fs::read_to_string(file(path)).map_err(|error| format!("{path}: {error}"));
    read.expect("a file of this crate")
}
