//! Recorded history through the same append path, in bulk: the caller owns the transaction, so that its progress in
//! the file advances with the events.
//!
//! Stock is not touched: history was sold from somebody's stock long ago. Call with some 2,000 lines at a time.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use commerce_events::{
    CatalogEvent, Event, LINES_MAX, OrderEvent, OrderV1, ProductLikeV1, ProductViewV1, ViewEvent,
};
use sqlx::PgConnection;
use thiserror::Error;

use crate::domain::money::checked_total;
use crate::domain::{Line, OrderKind};
use crate::event_log::{EventLog, EventLogError, Occurrence};
use crate::store::StoreError;
use crate::store::import::{
    LineColumns, OrderHead, StoredHead, insert_likes, insert_lines, insert_missing_products,
    list_product_ids, upsert_heads,
};

/// Why a bulk import failed; the caller gives up its transaction.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The database.
    #[error("the database did not take the import")]
    Store(#[from] StoreError),
    /// The outbox.
    #[error("the events were not appended")]
    Events(#[from] EventLogError),
    /// An order has a piece of another kind than before.
    #[error("order {external_id} is both a sale and a refund")]
    KindChanged {
        /// The order.
        external_id: String,
    },
    /// An order's amount does not fit.
    #[error("amount of order {external_id} is too large")]
    AmountTooLarge {
        /// The order.
        external_id: String,
    },
    /// A row that was just written cannot be found.
    #[error("{what} {key} is missing after it was written")]
    Missing {
        /// Product or order.
        what: &'static str,
        /// Its code or external id.
        key: String,
    },
}

/// A piece of a recorded invoice: all of it, or further lines of one that came before.
#[derive(Debug, Clone)]
pub struct ImportedOrder {
    /// The invoice's number.
    pub external_id: String,
    /// The same for every piece of it.
    pub kind: OrderKind,
    /// The customer, if recorded; the first piece's is kept.
    pub user_id: Option<i64>,
    /// Of this piece: its event's time. The order keeps the first piece's.
    pub ordered_at: DateTime<Utc>,
    /// At least one.
    pub lines: Vec<Line>,
}

/// Orders that an import made; one that only gained lines is not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportedOrders {
    /// New sales.
    pub sales_new: u64,
    /// New refunds.
    pub refunds_new: u64,
}

/// A recorded like.
#[derive(Debug, Clone, Copy)]
pub struct ImportedLike {
    /// The buyer.
    pub user_id: i64,
    /// The product.
    pub product_id: i64,
    /// When.
    pub liked_at: DateTime<Utc>,
}

/// A recorded view.
#[derive(Debug, Clone, Copy)]
pub struct ImportedView {
    /// The buyer, if recorded.
    pub user_id: Option<i64>,
    /// The product.
    pub product_id: i64,
    /// When.
    pub viewed_at: DateTime<Utc>,
}

/// The ids of `products` (code, name, price), in their order; creates those that are new with `stock` units each. Of a
/// code that appears twice the first name and price are taken.
///
/// # Errors
/// [`ImportError::Store`].
pub async fn ensure_products(
    tx: &mut PgConnection,
    products: &[(&str, &str, i64)],
    stock: i64,
) -> Result<Vec<i64>, ImportError> {
    let mut distinct = BTreeMap::new();
    for (code, name, price) in products {
        distinct.entry(*code).or_insert((*name, *price));
    }
    let codes: Vec<&str> = distinct.keys().copied().collect();
    let (names, prices): (Vec<&str>, Vec<i64>) = distinct.values().copied().unzip();
    insert_missing_products(tx, &codes, &names, &prices, stock).await?;
    // A statement of its own: it also sees what another importer committed meanwhile.
    let ids: HashMap<String, i64> = list_product_ids(tx, &codes).await?.into_iter().collect();
    products
        .iter()
        .map(|(code, ..)| {
            let missing = || ImportError::Missing { what: "product", key: (*code).to_owned() };
            ids.get(*code).copied().ok_or_else(missing)
        })
        .collect()
}

/// Writes the orders, or adds the lines to those that exist (their numbers go on), and appends one event for the lines
/// of each piece: a completion for a sale, a cancellation for a refund. Pieces without lines are ignored. Answers how
/// many orders are new.
///
/// # Errors
/// [`ImportError`].
pub async fn import_orders(
    tx: &mut PgConnection,
    log: &EventLog,
    orders: &[ImportedOrder],
) -> Result<ImportedOrders, ImportError> {
    let pieces: Vec<&ImportedOrder> = orders.iter().filter(|piece| !piece.lines.is_empty()).collect();
    if pieces.is_empty() {
        return Ok(ImportedOrders::default());
    }
    let heads = merge_heads(&pieces)?;
    let stored: HashMap<String, StoredHead> =
        upsert_heads(tx, &heads).await?.into_iter().map(|head| (head.external_id.clone(), head)).collect();
    let mut columns = LineColumns::default();
    let mut occurrences = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let missing = || ImportError::Missing { what: "order", key: piece.external_id.clone() };
        let head = stored.get(&piece.external_id).ok_or_else(missing)?;
        if head.kind != piece.kind.as_str() {
            return Err(ImportError::KindChanged { external_id: piece.external_id.clone() });
        }
        for line in &piece.lines {
            columns.orders.push(head.id);
            columns.products.push(line.product_id);
            columns.quantities.push(line.quantity);
            columns.prices.push(line.unit_price);
        }
        occurrences.extend(piece_events(head, piece));
    }
    insert_lines(tx, &columns).await?;
    log.append(tx, &occurrences).await?;
    Ok(count_new(stored.values()))
}

fn count_new<'a>(stored: impl Iterator<Item = &'a StoredHead>) -> ImportedOrders {
    let mut new = ImportedOrders::default();
    // Every later piece raises the version.
    for head in stored.filter(|head| head.version == 1) {
        if head.kind == OrderKind::Refund.as_str() {
            new.refunds_new += 1;
        } else {
            new.sales_new += 1;
        }
    }
    new
}

/// Writes the likes that are new and appends an event for each of them, in the order given; how many were new.
///
/// # Errors
/// [`ImportError`].
pub async fn import_likes(
    tx: &mut PgConnection,
    log: &EventLog,
    likes: &[ImportedLike],
) -> Result<u64, ImportError> {
    let mut first = BTreeMap::new();
    for like in likes {
        first.entry((like.user_id, like.product_id)).or_insert(like.liked_at);
    }
    let (pairs, times): (Vec<(i64, i64)>, Vec<DateTime<Utc>>) = first.into_iter().unzip();
    let (users, products): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let mut new = insert_likes(tx, &users, &products, &times).await?;
    new.sort_by_key(|(user_id, product_id, liked_at)| (*liked_at, *user_id, *product_id));
    let occurrences: Vec<Occurrence<'_>> = new
        .iter()
        .map(|(user_id, product_id, liked_at)| Occurrence {
            event: Event::Catalog(CatalogEvent::Liked(ProductLikeV1 {
                product_id: *product_id,
                user_id: *user_id,
            })),
            occurred_at: *liked_at,
            traceparent: None,
        })
        .collect();
    log.append(tx, &occurrences).await?;
    Ok(u64::try_from(occurrences.len()).unwrap_or(u64::MAX))
}

/// Appends an event for each view.
///
/// # Errors
/// [`ImportError::Events`].
pub async fn import_views(
    tx: &mut PgConnection,
    log: &EventLog,
    views: &[ImportedView],
) -> Result<(), ImportError> {
    let occurrences: Vec<Occurrence<'_>> = views
        .iter()
        .map(|view| Occurrence {
            event: Event::View(ViewEvent::Viewed(ProductViewV1 {
                product_id: view.product_id,
                user_id: view.user_id,
            })),
            occurred_at: view.viewed_at,
            traceparent: None,
        })
        .collect();
    Ok(log.append(tx, &occurrences).await?)
}

/// One head an order, with the amount of all its pieces, in the order of its id: importers lock alike.
fn merge_heads<'a>(pieces: &[&'a ImportedOrder]) -> Result<Vec<OrderHead<'a>>, ImportError> {
    let mut heads = BTreeMap::<&str, OrderHead<'a>>::new();
    for piece in pieces {
        let too_large = || ImportError::AmountTooLarge { external_id: piece.external_id.clone() };
        let pairs = piece.lines.iter().map(|line| (line.quantity, line.unit_price));
        let amount = checked_total(pairs).ok_or_else(too_large)?;
        let head = heads.entry(&piece.external_id).or_insert_with(|| OrderHead {
            external_id: &piece.external_id,
            kind: piece.kind.as_str(),
            user_id: piece.user_id,
            ordered_at: piece.ordered_at,
            amount: 0,
        });
        head.amount = head.amount.checked_add(amount).ok_or_else(too_large)?;
    }
    Ok(heads.into_values().collect())
}

/// The events of a piece: one, or several when it has more lines than an event may have.
fn piece_events<'a>(
    head: &'a StoredHead,
    piece: &'a ImportedOrder,
) -> impl Iterator<Item = Occurrence<'static>> + 'a {
    piece.lines.chunks(LINES_MAX).map(|lines| {
        let order = OrderV1 {
            order_id: head.id,
            user_id: head.user_id,
            lines: lines.iter().map(Into::into).collect(),
        };
        let event = match piece.kind {
            OrderKind::Sale => OrderEvent::Completed(order),
            OrderKind::Refund => OrderEvent::Cancelled(order),
        };
        Occurrence { event: Event::Order(event), occurred_at: piece.ordered_at, traceparent: None }
    })
}
