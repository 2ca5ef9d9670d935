//! Applies a chunk: its rows, its events and the progress in one transaction.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use commerce_api::import::{
    ImportedLike, ImportedOrder, ImportedView, ensure_products, import_likes, import_orders, import_views,
};
use commerce_api::{EventLog, Line, OrderKind};
use commerce_events::{LINES_MAX, ORDER_AMOUNT_MAX};
use sqlx::{Connection, PgConnection};

use super::entry::{Entry, InvoiceLine};
use super::reader::Chunk;
use super::report::Tally;
use super::store;

/// A file that is being replayed.
pub(super) struct Replay<'a> {
    pub(super) log: &'a EventLog,
    pub(super) digest: &'a str,
    pub(super) initial_stock: i64,
    /// Lines applied, by this run and those before it.
    pub(super) lines_done: u64,
    /// What they were.
    pub(super) total: Tally,
}

impl Replay<'_> {
    /// Applies the next chunk and commits.
    pub(super) async fn apply(&mut self, connection: &mut PgConnection, chunk: &Chunk) -> anyhow::Result<()> {
        let from = i64::try_from(self.lines_done)?;
        let to = i64::try_from(chunk.last_line)?;
        let mut tx = connection.begin().await?;
        let stored = store::lock_progress(&mut tx, self.digest).await?;
        ensure!(stored == from, "another replay of the same file is running: it is at line {stored}");
        let mut total = self.total.clone();
        total.add(&chunk.tally);
        total.add(&self.import(&mut tx, &chunk.entries).await?);
        ensure!(
            total.accounted_rows() == total.rows,
            "{} of {} rows have an outcome",
            total.accounted_rows(),
            total.rows
        );
        let moved = store::move_progress(&mut tx, self.digest, (from, to), &total, chunk.is_last).await?;
        ensure!(moved == 1, "the progress of the file was moved by somebody else");
        tx.commit().await?;
        self.lines_done = chunk.last_line;
        self.total = total;
        Ok(())
    }

    async fn import(&self, tx: &mut PgConnection, entries: &[Entry]) -> anyhow::Result<Tally> {
        let ids = self.product_ids(tx, entries).await?;
        let mut effects = Effects::default();
        for entry in entries {
            effects.push(entry, &ids);
        }
        let mut tally = effects.tally;
        let orders = import_orders(tx, self.log, &effects.orders).await.context("importing orders")?;
        tally.sale_orders = orders.sales_new;
        tally.cancelled_invoices = orders.refunds_new;
        let likes = import_likes(tx, self.log, &effects.likes).await.context("importing likes")?;
        tally.likes = likes;
        tally.already_liked = u64::try_from(effects.likes.len())?.saturating_sub(likes);
        import_views(tx, self.log, &effects.views).await.context("importing views")?;
        tally.views = u64::try_from(effects.views.len())?;
        Ok(tally)
    }

    /// The products of the chunk by code: one statement for all of them.
    async fn product_ids<'e>(
        &self,
        tx: &mut PgConnection,
        entries: &'e [Entry],
    ) -> anyhow::Result<HashMap<&'e str, i64>> {
        let mut distinct = HashMap::new();
        for entry in entries {
            let (code, name, price) = match entry {
                Entry::Line(line) => (line.code.as_str(), line.name.as_str(), line.unit_price),
                Entry::View(visit) | Entry::Like(visit) => (visit.code.as_str(), visit.code.as_str(), 0),
                Entry::Ignored(_) => continue,
            };
            distinct.entry(code).or_insert((code, name, price));
        }
        let products: Vec<(&str, &str, i64)> = distinct.into_values().collect();
        let ids = ensure_products(tx, &products, self.initial_stock).await.context("creating products")?;
        Ok(products.iter().map(|(code, ..)| *code).zip(ids).collect())
    }
}

/// What the entries of a chunk become.
#[derive(Default)]
struct Effects {
    orders: Vec<ImportedOrder>,
    /// Minor units of the last order so far.
    last_amount: i64,
    likes: Vec<ImportedLike>,
    views: Vec<ImportedView>,
    tally: Tally,
}

impl Effects {
    fn push(&mut self, entry: &Entry, ids: &HashMap<&str, i64>) {
        match entry {
            Entry::Line(line) => {
                if let Some(product_id) = ids.get(line.code.as_str()) {
                    self.push_line(line, *product_id);
                }
            }
            Entry::View(visit) => {
                self.views.extend(ids.get(visit.code.as_str()).map(|product_id| ImportedView {
                    user_id: Some(visit.user_id),
                    product_id: *product_id,
                    viewed_at: visit.at,
                }));
            }
            Entry::Like(visit) => {
                self.likes.extend(ids.get(visit.code.as_str()).map(|product_id| ImportedLike {
                    user_id: visit.user_id,
                    product_id: *product_id,
                    liked_at: visit.at,
                }));
            }
            Entry::Ignored(_) => {}
        }
    }

    /// Lines that follow each other on one invoice are one piece, and so one event, as long as they agree in what the
    /// event says once and stay within what one event may hold.
    fn push_line(&mut self, line: &InvoiceLine, product_id: i64) {
        match line.kind {
            OrderKind::Sale => {
                self.tally.sale_lines += 1;
                self.tally.sale_units += line.quantity;
            }
            OrderKind::Refund => {
                self.tally.cancelled_lines += 1;
                self.tally.cancelled_units += line.quantity;
            }
        }
        // Both are within the bounds of the contract, whose product fits.
        let amount = line.quantity * line.unit_price;
        let entry = Line { product_id, quantity: line.quantity, unit_price: line.unit_price };
        match self.orders.last_mut() {
            Some(last)
                if last.external_id == line.invoice
                    && last.ordered_at == line.at
                    && last.user_id == line.user_id
                    && last.lines.len() < LINES_MAX
                    && self.last_amount + amount <= ORDER_AMOUNT_MAX =>
            {
                last.lines.push(entry);
                self.last_amount += amount;
            }
            _ => {
                self.orders.push(ImportedOrder {
                    external_id: line.invoice.clone(),
                    kind: line.kind,
                    user_id: line.user_id,
                    ordered_at: line.at,
                    lines: vec![entry],
                });
                self.last_amount = amount;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use chrono::{DateTime, TimeDelta};
    use commerce_api::OrderKind;
    use commerce_events::{QUANTITY_MAX, UNIT_PRICE_MAX};

    use super::super::entry::{Entry, InvoiceLine};
    use super::Effects;

    fn line(invoice: &str, minute: i64, user_id: Option<i64>, quantity: i64, unit_price: i64) -> Entry {
        Entry::Line(InvoiceLine {
            kind: OrderKind::Sale,
            invoice: invoice.to_owned(),
            user_id,
            at: DateTime::UNIX_EPOCH + TimeDelta::minutes(minute),
            code: "a".to_owned(),
            name: "a".to_owned(),
            quantity,
            unit_price,
        })
    }

    fn pieces(entries: &[Entry]) -> Vec<(String, usize)> {
        let mut effects = Effects::default();
        let ids = HashMap::from([("a", 1)]);
        for entry in entries {
            effects.push(entry, &ids);
        }
        effects.orders.into_iter().map(|order| (order.external_id, order.lines.len())).collect()
    }

    #[test]
    fn a_piece_is_a_run_of_one_invoice_at_one_time() {
        let entries = [
            line("1", 0, None, 1, 1),
            line("1", 0, None, 2, 1),
            line("1", 1, None, 1, 1),
            line("1", 1, Some(5), 1, 1),
            line("2", 1, Some(5), 1, 1),
            line("1", 1, Some(5), 1, 1),
        ];
        let expected = [("1", 2), ("1", 1), ("1", 1), ("2", 1), ("1", 1)];
        assert_eq!(pieces(&entries), expected.map(|(invoice, lines)| (invoice.to_owned(), lines)));
    }

    #[test]
    fn a_piece_never_exceeds_what_an_event_may_hold() {
        assert_eq!(
            pieces(&vec![line("1", 0, None, 1, 1); 4_001])
                .iter()
                .map(|(_, lines)| *lines)
                .collect::<Vec<_>>(),
            [2_000, 2_000, 1]
        );
        let largest = line("1", 0, None, QUANTITY_MAX, UNIT_PRICE_MAX);
        assert_eq!(pieces(&[largest.clone(), largest, line("1", 0, None, 1, 0)]).len(), 2);
    }
}
