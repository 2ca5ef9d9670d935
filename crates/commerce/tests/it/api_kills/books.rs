//! What the tables say.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sqlx::PgConnection;

use super::ledger::Lines;

/// An order in the tables.
#[derive(Debug)]
pub(super) struct StoredOrder {
    pub(super) user: i64,
    /// The keys under which it is the answer.
    pub(super) keys: Vec<String>,
    pub(super) lines: Lines,
}

/// Everything that commands leave behind.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// By id.
    pub(super) orders: BTreeMap<i64, StoredOrder>,
    /// By buyer and product.
    pub(super) likes: BTreeSet<(i64, i64)>,
    /// Units by product.
    pub(super) stock: Lines,
    /// Events of orders: buyer and lines, by order.
    pub(super) completed: BTreeMap<i64, Vec<(i64, Lines)>>,
    /// Events of likes that were given, by buyer and product.
    pub(super) given: BTreeMap<(i64, i64), u64>,
    /// Events of likes that were taken back.
    pub(super) taken: BTreeMap<(i64, i64), u64>,
    /// Events of views: products, by visitor.
    pub(super) viewed: BTreeMap<i64, Vec<i64>>,
    /// Events of stock that came to nothing, by product.
    pub(super) depleted: BTreeMap<i64, u64>,
}

impl Books {
    /// Reads all of it in the state that the connection sees.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self> {
        let mut books = Self::default();
        let orders: Vec<(i64, i64)> =
            sqlx::query_as("select id, user_id from shop.orders").fetch_all(&mut *connection).await?;
        for (id, user) in orders {
            books.orders.insert(id, StoredOrder { user, keys: Vec::new(), lines: Lines::new() });
        }
        let lines: Vec<(i64, i64, i64)> =
            sqlx::query_as("select order_id, product_id, quantity from shop.order_line")
                .fetch_all(&mut *connection)
                .await?;
        for (id, product, quantity) in lines {
            *books.order(id)?.lines.entry(product).or_default() += quantity;
        }
        let keys: Vec<(i64, String)> =
            sqlx::query_as("select order_id, idempotency_key from shop.idempotent_response")
                .fetch_all(&mut *connection)
                .await?;
        for (id, key) in keys {
            books.order(id)?.keys.push(key);
        }
        let likes: Vec<(i64, i64)> = sqlx::query_as("select user_id, product_id from shop.product_like")
            .fetch_all(&mut *connection)
            .await?;
        books.likes.extend(likes);
        let stock: Vec<(i64, i64)> =
            sqlx::query_as("select product_id, quantity from shop.stock").fetch_all(&mut *connection).await?;
        books.stock.extend(stock);
        let events: Vec<(String, Vec<u8>)> =
            sqlx::query_as("select event_type, payload from outbox.event").fetch_all(connection).await?;
        for (kind, payload) in events {
            books.enter(&kind, &serde_json::from_slice(&payload)?).with_context(|| kind)?;
        }
        Ok(books)
    }

    fn order(&mut self, id: i64) -> Result<&mut StoredOrder> {
        self.orders
            .get_mut(&id)
            .with_context(|| format!("something belongs to order {id}, which is not there"))
    }

    fn enter(&mut self, kind: &str, payload: &Value) -> Result<()> {
        let number =
            |value: &Value, name: &str| value[name].as_i64().with_context(|| format!("{name}: {value}"));
        let of = |name| number(payload, name);
        match kind {
            "OrderCompleted" => {
                let lines = payload["lines"].as_array().context("no lines")?;
                let lines =
                    lines.iter().map(|line| Ok((number(line, "productId")?, number(line, "quantity")?)));
                let event = (of("userId")?, lines.collect::<Result<Lines>>()?);
                self.completed.entry(of("orderId")?).or_default().push(event);
            }
            "ProductLiked" => *self.given.entry((of("userId")?, of("productId")?)).or_default() += 1,
            "ProductUnliked" => *self.taken.entry((of("userId")?, of("productId")?)).or_default() += 1,
            "ProductViewed" => self.viewed.entry(of("userId")?).or_default().push(of("productId")?),
            "StockDepleted" => *self.depleted.entry(of("productId")?).or_default() += 1,
            _ => bail!("nobody asked for it"),
        }
        Ok(())
    }
}
