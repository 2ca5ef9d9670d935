//! Promise P8: at any moment, in one snapshot, the books of the consumers balance.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Serialize;
use sqlx::PgConnection;

use super::settled::plain_topic;
use super::store::{self, Applied, DeadLetters, Marks, Progress, Sums};

/// Two sums that must be equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is compared.
    pub what: String,
    /// The left side.
    pub left: i64,
    /// The right side.
    pub right: i64,
}

impl Check {
    /// Whether the sides are equal.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.left == self.right
    }
}

/// What one snapshot of the metrics database holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    progress: Vec<Progress>,
    marks: Vec<Marks>,
    pub(super) dead_letters: Vec<DeadLetters>,
    applied: Vec<Applied>,
    sums: Sums,
    hourly: Sums,
}

impl Books {
    /// Reads them; the caller has opened the snapshot.
    pub(super) async fn load(snapshot: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            progress: store::list_progress(snapshot).await?,
            marks: store::list_marks(snapshot).await?,
            dead_letters: store::list_dead_letters(snapshot).await?,
            applied: store::list_applied(snapshot).await?,
            sums: store::load_sums(snapshot).await?,
            hourly: store::load_hourly_sums(snapshot).await?,
        })
    }

    /// Every equation of P8. `prefix` stands in front of topics.
    pub(super) fn checks(&self, prefix: &str) -> Vec<Check> {
        let mut checks = Vec::new();
        self.check_partitions(&mut checks);
        self.check_groups(&mut checks);
        self.check_applied(prefix, &mut checks);
        self.check_sums(&mut checks);
        checks
    }

    /// Every offset has one outcome, and every dead letter is there.
    fn check_partitions(&self, checks: &mut Vec<Check>) {
        let mut letters = BTreeMap::<_, i64>::new();
        for row in &self.dead_letters {
            *letters.entry((row.group_name.as_str(), row.topic.as_str(), row.partition)).or_default() +=
                row.records;
        }
        for row in &self.progress {
            let place = format!("{} on {}/{}", row.group_name, row.topic, row.partition);
            checks.push(Check {
                what: format!("{place}: offsets advanced = handled + duplicates + dead letters + skipped"),
                left: row.next_offset - row.first_offset,
                right: row.handled + row.duplicates + row.dead_lettered + row.skipped,
            });
            let key = (row.group_name.as_str(), row.topic.as_str(), row.partition);
            checks.push(Check {
                what: format!("{place}: dead letters counted = rows of inbox.dead_letter"),
                left: row.dead_lettered,
                right: letters.remove(&key).unwrap_or(0),
            });
        }
        for ((group, topic, partition), records) in letters {
            checks.push(Check {
                what: format!("{group} on {topic}/{partition}: rows of inbox.dead_letter without progress"),
                left: 0,
                right: records,
            });
        }
    }

    /// What was handled is remembered as handled.
    fn check_groups(&self, checks: &mut Vec<Check>) {
        for marks in &self.marks {
            checks.push(Check {
                what: format!(
                    "{}: handled + settled by letters = bits set + ids + forgotten",
                    marks.group_name
                ),
                left: self.handled(|row| row.group_name == marks.group_name) + marks.settled,
                right: marks.bits + marks.ids + marks.forgotten,
            });
        }
    }

    /// What was handled was applied, partition by partition.
    fn check_applied(&self, prefix: &str, checks: &mut Vec<Check>) {
        let mut applied = BTreeMap::<(&str, i32), i64>::new();
        for row in &self.progress {
            applied.entry((plain_topic(&row.topic, prefix), row.partition)).or_default();
        }
        for row in &self.applied {
            *applied.entry((plain_topic(&row.topic, prefix), row.partition)).or_default() += row.events;
        }
        for ((topic, partition), events) in applied {
            checks.push(Check {
                what: format!("{topic}/{partition}: events handled = events applied"),
                left: self
                    .handled(|row| plain_topic(&row.topic, prefix) == topic && row.partition == partition),
                right: events,
            });
        }
    }

    /// What was applied is what buyers see.
    fn check_sums(&self, checks: &mut Vec<Check>) {
        let mut add = |what: &str, left: i64, right: i64| {
            checks.push(Check { what: what.to_owned(), left, right });
        };
        let likes = self.units("ProductLiked") - self.units("ProductUnliked");
        add("likes applied = sum of like_count", likes, self.sums.likes);
        let sales = self.units("OrderCompleted") - self.units("OrderCancelled");
        add("units applied = sum of sales_count", sales, self.sums.sales);
        add("views applied = sum of view_count", self.units("ProductViewed"), self.sums.views);
        add("sum of like_count = sum by the hour", self.sums.likes, self.hourly.likes);
        add("sum of sales_count = sum by the hour", self.sums.sales, self.hourly.sales);
        add("sum of sales_amount = sum by the hour", self.sums.amount, self.hourly.amount);
        add("sum of view_count = sum by the hour", self.sums.views, self.hourly.views);
    }

    fn handled(&self, counts: impl Fn(&Progress) -> bool) -> i64 {
        self.progress.iter().filter(|row| counts(row)).map(|row| row.handled).sum()
    }

    fn units(&self, kind: &str) -> i64 {
        self.applied.iter().filter(|row| row.kind == kind).map(|row| row.units).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Applied, Books, DeadLetters, Marks, Progress, Sums};

    fn balanced() -> Books {
        let progress = |group: &str, topic: &str, handled, duplicates, dead_lettered, skipped| Progress {
            group_name: group.to_owned(),
            topic: topic.to_owned(),
            partition: 0,
            first_offset: 10,
            next_offset: 10 + handled + duplicates + dead_lettered + skipped,
            handled,
            duplicates,
            dead_lettered,
            skipped,
        };
        let applied = |topic: &str, kind: &str, events, units| Applied {
            topic: topic.to_owned(),
            partition: 0,
            kind: kind.to_owned(),
            events,
            units,
        };
        let sums = Sums { likes: 1, sales: 9, amount: 90, views: 4 };
        Books {
            progress: vec![
                progress("p-m", "p-catalog-events", 3, 1, 2, 0),
                progress("p-m", "p-order-events", 2, 0, 0, 0),
                progress("p-m", "p-view-events", 4, 0, 0, 5),
                progress("p-s", "p-stock-events", 1, 0, 0, 0),
            ],
            marks: vec![
                Marks { group_name: "p-m".to_owned(), bits: 7, ids: 1, forgotten: 1, settled: 0 },
                Marks { group_name: "p-s".to_owned(), bits: 1, ids: 0, forgotten: 0, settled: 0 },
            ],
            dead_letters: vec![DeadLetters {
                group_name: "p-m".to_owned(),
                topic: "p-catalog-events".to_owned(),
                partition: 0,
                reason: "undecodable".to_owned(),
                records: 2,
            }],
            applied: vec![
                applied("catalog-events", "ProductLiked", 2, 2),
                applied("catalog-events", "ProductUnliked", 1, 1),
                applied("order-events", "OrderCompleted", 1, 10),
                applied("order-events", "OrderCancelled", 1, 1),
                applied("view-events", "ProductViewed", 4, 4),
                applied("stock-events", "StockDepleted", 1, 1),
            ],
            sums,
            hourly: sums,
        }
    }

    fn broken(books: &Books) -> Vec<String> {
        books.checks("p-").into_iter().filter(|check| !check.holds()).map(|check| check.what).collect()
    }

    #[test]
    fn balanced_books_have_no_fault() {
        assert!(broken(&balanced()).is_empty());
        assert_eq!(balanced().checks("p-").len(), 4 * 2 + 2 + 4 + 7);
        assert!(broken(&Books::default()).is_empty());
    }

    #[test]
    fn each_imbalance_is_found() {
        type Break = fn(&mut Books);
        let cases: [(Break, &str); 10] = [
            (|books| books.progress[0].next_offset += 1, "offsets advanced"),
            (|books| books.progress[2].skipped -= 1, "offsets advanced"),
            (|books| books.dead_letters[0].records -= 1, "dead letters counted"),
            (|books| books.dead_letters[0].partition = 7, "without progress"),
            (|books| books.marks[0].bits -= 1, "bits set"),
            (|books| books.marks[1].ids += 1, "bits set"),
            (|books| books.applied[5].events += 1, "events applied"),
            (|books| books.applied[2].units += 1, "sales_count"),
            (|books| books.sums.likes += 1, "like_count"),
            (|books| books.hourly.amount += 1, "sales_amount"),
        ];
        for (breaking, what) in cases {
            let mut books = balanced();
            breaking(&mut books);
            assert!(broken(&books).iter().any(|fault| fault.contains(what)), "{what}: {:?}", broken(&books));
        }
    }
}
