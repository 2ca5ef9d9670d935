//! The proof: what buyers see against the ledger, product by product, and the dead letters against the poison sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use commerce_events::{DEAD_LETTER_SUFFIX, TOPICS};
use kafka_client::{ClientSettings, TopicReader};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::poison::Poison;
use super::store;
use crate::ledger::Expected;
use crate::traffic::Shop;
use crate::verify::Pipeline;

/// Counts that buyers see may be remembered for a second: a difference that outlives this is one.
const PATIENCE: Duration = Duration::from_secs(3);
/// From one look at the list to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The header that identifies a dead letter on its topic.
const DEAD_LETTER_ID: &str = "x-dlq-id";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is counted.
    pub name: &'static str,
    /// By the ledger.
    pub expected: i64,
    /// By the pipeline.
    pub counted: i64,
    /// What the pipeline has too little, summed over products.
    pub lost: i64,
    /// What it has too much, summed over products.
    pub double: i64,
}

impl Line {
    const fn new(name: &'static str) -> Self {
        Self { name, expected: 0, counted: 0, lost: 0, double: 0 }
    }

    /// Whether nothing is missing and nothing is too much.
    #[must_use]
    pub const fn exact(&self) -> bool {
        self.expected == self.counted && self.lost == 0 && self.double == 0
    }

    /// Adds one product; up to `doubt` more than expected is neither lost nor double.
    fn add(&mut self, expected: i64, counted: i64, doubt: i64) {
        self.expected += expected;
        self.counted += counted;
        self.lost += (expected - counted).max(0);
        self.double += (counted - expected - doubt).max(0);
    }
}

/// What a product shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shown {
    likes: i64,
    sales_units: i64,
    sales_amount: i64,
    views: i64,
    sold_out: bool,
}

/// Lines, and the products that differ, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) lines: Vec<Line>,
    pub(super) differences: Vec<String>,
}

impl Comparison {
    fn exact(&self) -> bool {
        self.lines.iter().all(Line::exact) && self.differences.is_empty()
    }
}

/// Reads what buyers see until it is as expected, or stays different.
pub(super) async fn check_products(
    shop: &Shop,
    pipeline: &Pipeline,
    expected: &BTreeMap<i64, Expected>,
) -> anyhow::Result<Comparison> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let comparison = compare(expected, &read_shown(shop, pipeline).await?);
        if comparison.exact() || Instant::now() >= deadline {
            return Ok(comparison);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

async fn read_shown(shop: &Shop, pipeline: &Pipeline) -> anyhow::Result<BTreeMap<i64, Shown>> {
    let mut connection = PgConnection::connect_with(&store::options(&pipeline.metrics_url)?).await?;
    // The list does not show amounts.
    let amounts: BTreeMap<i64, i64> = store::sales_amounts(&mut connection).await?.into_iter().collect();
    let mut shown: BTreeMap<i64, Shown> = BTreeMap::new();
    for row in shop.list_products().await? {
        // A page without counts is served when counting is down; here that is a difference.
        let counts =
            (row.like_count.unwrap_or(-1), row.sales_count.unwrap_or(-1), row.view_count.unwrap_or(-1));
        let (likes, sales_units, views) = counts;
        let sales_amount = amounts.get(&row.product_id).copied().unwrap_or(0);
        shown.insert(
            row.product_id,
            Shown { likes, sales_units, sales_amount, views, sold_out: row.sold_out },
        );
    }
    Ok(shown)
}

/// Compares product by product; a product that only one side knows is compared with nothing.
fn compare(expected: &BTreeMap<i64, Expected>, shown: &BTreeMap<i64, Shown>) -> Comparison {
    let mut likes = Line::new("likes");
    let mut units = Line::new("units sold");
    let mut amount = Line::new("amount sold");
    let mut views = Line::new("views");
    let mut sold_out = Line::new("sold-out products");
    let mut differences = Vec::new();
    let ids: BTreeSet<i64> = expected.keys().chain(shown.keys()).copied().collect();
    for id in ids {
        let seen = shown.get(&id).copied().unwrap_or_default();
        let must = expected.get(&id).copied().unwrap_or(Expected { stock: 1, ..Expected::default() });
        likes.add(must.likes, seen.likes, 0);
        units.add(must.sales_units, seen.sales_units, 0);
        amount.add(must.sales_amount, seen.sales_amount, 0);
        views.add(must.views, seen.views, must.views_unknown);
        sold_out.add(i64::from(must.sold_out()), i64::from(seen.sold_out), 0);
        let as_shown = Shown {
            likes: must.likes,
            sales_units: must.sales_units,
            sales_amount: must.sales_amount,
            views: must.views,
            sold_out: must.sold_out(),
        };
        if seen != as_shown || !shown.contains_key(&id) || !expected.contains_key(&id) {
            differences.push(format!("product {id}: expected {must:?}, shown {:?}", shown.get(&id)));
        }
    }
    Comparison { lines: vec![likes, units, amount, views, sold_out], differences }
}

/// The origin of a record: topic without prefix, key, value.
type Origin = (String, Option<Vec<u8>>, Option<Vec<u8>>);

/// Compares the poison that was sent with the rows and with the records on the dead-letter topics.
pub(super) async fn check_dead_letters(pipeline: &Pipeline, poison: &[Poison]) -> anyhow::Result<Comparison> {
    let sent: Vec<Origin> =
        poison.iter().map(|one| (one.topic.to_owned(), one.key.clone(), one.value.clone())).collect();
    let prefix = &pipeline.topic_prefix;
    let mut connection = PgConnection::connect_with(&store::options(&pipeline.metrics_url)?).await?;
    let letters = store::dead_letters(&mut connection).await?;
    let mut differences: Vec<String> = Vec::new();
    let rows: Vec<Origin> = letters
        .iter()
        .map(|row| {
            (
                row.topic.strip_prefix(prefix).unwrap_or(&row.topic).to_owned(),
                row.key.clone(),
                row.value.clone(),
            )
        })
        .collect();
    let (row_line, missing, unexpected) = compare_origins("dead letters", &sent, rows);
    for origin in &missing {
        let name = poison
            .iter()
            .find(|one| origin.1 == one.key && origin.2 == one.value)
            .map_or("?", |one| one.name);
        differences.push(format!("poison {name:?} on {} is no dead letter", origin.0));
    }
    for origin in &unexpected {
        let letter = letters.iter().find(|row| row.key == origin.1 && row.value == origin.2);
        let reason = letter.map_or("?", |row| row.reason.as_str());
        differences.push(format!(
            "unexpected dead letter of {}: {reason}, key {:?}",
            origin.0,
            text(origin.1.as_deref())
        ));
    }
    let mut records = Vec::new();
    for topic in TOPICS {
        let (client, name) = (pipeline.kafka.clone(), format!("{prefix}{topic}{DEAD_LETTER_SUFFIX}"));
        let read = tokio::task::spawn_blocking(move || read_dead_letters(&client, &name)).await??;
        records.extend(read.into_iter().map(|(key, value)| (topic.to_owned(), key, value)));
    }
    let (record_line, missing, unexpected) = compare_origins("dead-letter records", &sent, records);
    differences
        .extend(missing.iter().map(|origin| format!("a dead letter of {} is not on its topic", origin.0)));
    differences.extend(
        unexpected.iter().map(|origin| format!("unexpected record on the dead-letter topic of {}", origin.0)),
    );
    Ok(Comparison { lines: vec![row_line, record_line], differences })
}

/// Key and value.
type Content = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Keys and values of a dead-letter topic, one for each dead letter: a publisher that was killed before it noted the
/// acknowledgement publishes the same one again, which its id tells. Blocking.
fn read_dead_letters(client: &ClientSettings, topic: &str) -> anyhow::Result<Vec<Content>> {
    let mut reader = TopicReader::open(client, topic)?;
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        let id = record.header(DEAD_LETTER_ID).map(<[u8]>::to_vec);
        if id.is_none() || seen.insert(id) {
            records.push((record.key, record.value));
        }
    }
    Ok(records)
}

/// The line, what is missing, and what nobody expected.
fn compare_origins(
    name: &'static str,
    sent: &[Origin],
    found: Vec<Origin>,
) -> (Line, Vec<Origin>, Vec<Origin>) {
    let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    let (expected, counted) = (count(sent.len()), count(found.len()));
    let mut missing = sent.to_vec();
    let mut unexpected = Vec::new();
    for origin in found {
        match missing.iter().position(|wanted| *wanted == origin) {
            Some(place) => {
                missing.swap_remove(place);
            }
            None => unexpected.push(origin),
        }
    }
    let line = Line { name, expected, counted, lost: count(missing.len()), double: count(unexpected.len()) };
    (line, missing, unexpected)
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "none".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> BTreeMap<i64, Expected> {
        let product =
            Expected { likes: 3, sales_units: 10, sales_amount: 500, views: 40, views_unknown: 0, stock: 0 };
        BTreeMap::from([(1, product), (2, Expected { stock: 5, ..product })])
    }

    fn shown() -> BTreeMap<i64, Shown> {
        let product = Shown { likes: 3, sales_units: 10, sales_amount: 500, views: 40, sold_out: true };
        BTreeMap::from([(1, product), (2, Shown { sold_out: false, ..product })])
    }

    fn line<'a>(comparison: &'a Comparison, name: &str) -> &'a Line {
        comparison.lines.iter().find(|line| line.name == name).unwrap()
    }

    #[test]
    fn the_same_on_both_sides_is_exact() {
        let comparison = compare(&expected(), &shown());
        assert!(comparison.exact(), "{comparison:?}");
        assert_eq!(line(&comparison, "likes").expected, 6);
    }

    #[test]
    fn lost_and_double_do_not_cancel_out_between_products() {
        let mut shown = shown();
        shown.get_mut(&1).unwrap().likes = 1;
        shown.get_mut(&2).unwrap().likes = 5;
        let comparison = compare(&expected(), &shown);
        let likes = line(&comparison, "likes");
        assert_eq!((likes.expected, likes.counted, likes.lost, likes.double), (6, 6, 2, 2));
        assert!(!comparison.exact());
        assert_eq!(comparison.differences.len(), 2);
    }

    #[test]
    fn a_view_of_which_nobody_knows_is_neither_lost_nor_double_but_not_exact() {
        let mut expected = expected();
        expected.get_mut(&1).unwrap().views_unknown = 2;
        let mut shown = shown();
        shown.get_mut(&1).unwrap().views = 42;
        let comparison = compare(&expected, &shown);
        let views = line(&comparison, "views");
        assert_eq!((views.lost, views.double, views.exact()), (0, 0, false));
        shown.get_mut(&1).unwrap().views = 43;
        assert_eq!(line(&compare(&expected, &shown), "views").double, 1);
    }

    #[test]
    fn a_product_wrongly_shown_as_sold_out_and_one_wrongly_not_are_told_apart() {
        let mut shown = shown();
        shown.get_mut(&1).unwrap().sold_out = false;
        shown.get_mut(&2).unwrap().sold_out = true;
        let comparison = compare(&expected(), &shown);
        let sold_out = line(&comparison, "sold-out products");
        assert_eq!((sold_out.expected, sold_out.counted, sold_out.lost, sold_out.double), (1, 1, 1, 1));
    }

    #[test]
    fn a_product_that_only_one_side_knows_is_a_difference() {
        let mut shown = shown();
        shown.remove(&2);
        shown.insert(3, Shown::default());
        let comparison = compare(&expected(), &shown);
        assert_eq!(comparison.differences.len(), 2);
        assert_eq!(line(&comparison, "likes").lost, 3);
    }

    #[test]
    fn dead_letters_are_matched_one_by_one() {
        let origin = |key: &str| ("catalog-events".to_owned(), Some(key.as_bytes().to_vec()), None);
        let sent = [origin("1"), origin("1"), origin("2")];
        let (line, missing, unexpected) =
            compare_origins("dead letters", &sent, vec![origin("1"), origin("3"), origin("2")]);
        assert_eq!((line.lost, line.double, line.exact()), (1, 1, false));
        assert_eq!((missing, unexpected), (vec![origin("1")], vec![origin("3")]));
        assert!(compare_origins("dead letters", &sent, sent.to_vec()).0.exact());
    }
}
