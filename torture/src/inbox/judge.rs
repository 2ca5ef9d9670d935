//! The ledger's judgement over what the consumers made of it, when nothing is disturbed any more.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use kafka_client::TopicReader;
use sqlx::PgConnection;
use uuid::Uuid;

use super::event::{Event, Kind};
use super::stage::Stage;
use super::store;
use super::traffic::Ledger;

/// What must not be, with its count.
pub(crate) type Violations = BTreeMap<&'static str, u64>;

/// What the consumers have made of the ledger.
#[derive(Debug, Clone, Default)]
struct Found {
    effects: BTreeMap<Uuid, i64>,
    /// Events of letters, as often as there are letters of them.
    letters: Vec<Option<Uuid>>,
    totals: BTreeMap<i64, (i64, i64)>,
    states: BTreeMap<i64, i64>,
    cache: BTreeMap<i64, i64>,
}

/// Compares effects and letters with the ledger. `is_redriven`: every letter's event has had its effect since.
pub(crate) async fn judge(
    connection: &mut PgConnection,
    ledger: &Ledger,
    is_redriven: bool,
) -> Result<Violations> {
    let letters = store::list_letters(connection).await?;
    let found = Found {
        effects: store::list_effects(connection).await?,
        letters: letters.iter().map(|(_, event)| event.as_deref().and_then(|id| id.parse().ok())).collect(),
        totals: store::list_totals(connection).await?,
        states: store::list_states(connection).await?,
        cache: store::list_cache(connection).await?,
    };
    Ok(compare(ledger, &found, is_redriven))
}

/// Letters that are not on their topic. Reads the topic.
pub(crate) async fn count_unsent(stage: &Stage, connection: &mut PgConnection) -> Result<u64> {
    let letters = store::list_letters(connection).await?;
    let (client, topic) = (stage.client(), stage.letter_topic());
    let sent = tokio::task::spawn_blocking(move || -> Result<BTreeSet<Uuid>> {
        let (mut reader, mut sent) = (TopicReader::open(&client, &topic)?, BTreeSet::new());
        while let Some(record) = reader.next().context("reading the letters' topic")? {
            let id = record.header("x-dlq-id").and_then(|id| std::str::from_utf8(id).ok());
            sent.extend(id.and_then(|id| id.parse::<Uuid>().ok()));
        }
        Ok(sent)
    });
    let sent = sent.await??;
    Ok(count(letters.iter().filter(|(id, _)| !sent.contains(id))))
}

fn compare(ledger: &Ledger, found: &Found, is_redriven: bool) -> Violations {
    let is_due = |event: &&Event| is_redriven || event.kind == Kind::Good;
    let due: BTreeMap<Uuid, &Event> =
        ledger.events.values().filter(is_due).map(|event| (event.id, event)).collect();
    let lettered: BTreeSet<Uuid> = found.letters.iter().flatten().copied().collect();
    let is_poison = |id: &Uuid| ledger.events.get(id).is_some_and(|event| event.kind != Kind::Good);
    let poison = ledger.events.values().filter(|event| event.kind != Kind::Good);
    let (mut totals, mut states) = (BTreeMap::<i64, (i64, i64)>::new(), BTreeMap::<i64, i64>::new());
    for event in due.values() {
        let total = totals.entry(event.product).or_default();
        *total = (total.0 + 1, total.1 + event.amount);
        let version = states.entry(event.key).or_default();
        *version = event.version.max(*version);
    }
    [
        ("lost", count(due.keys().filter(|id| !found.effects.contains_key(*id)))),
        ("counted twice", count(found.effects.values().filter(|times| **times > 1))),
        ("counted for nothing", count(found.effects.keys().filter(|id| !due.contains_key(*id)))),
        ("poison without a letter", count(poison.filter(|event| !lettered.contains(&event.id)))),
        ("letters without poison", count(lettered.iter().filter(|id| !is_poison(id)))),
        ("letters without an event", count(found.letters.iter().filter(|event| event.is_none()))),
        (
            "records of poison beside their letters",
            ledger.poison_records.abs_diff(count(found.letters.iter())),
        ),
        ("wrong counters", differences(&totals, &found.totals)),
        ("wrong states", differences(&states, &found.states)),
        ("stale in the cache", differences(&found.states, &found.cache)),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .collect()
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

/// Keys whose values differ, or that only one of both has.
fn differences<V: PartialEq>(expected: &BTreeMap<i64, V>, found: &BTreeMap<i64, V>) -> u64 {
    let wrong = expected.iter().filter(|(key, value)| found.get(key) != Some(value));
    count(wrong) + count(found.keys().filter(|key| !expected.contains_key(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u128, kind: Kind) -> Event {
        let version = i64::try_from(number).unwrap();
        Event { id: Uuid::from_u128(number), sequence: None, key: 1, version, product: 2, amount: 3, kind }
    }

    fn ledger() -> Ledger {
        let events = [event(1, Kind::Good), event(2, Kind::Good), event(3, Kind::Bad)];
        Ledger {
            events: events.into_iter().map(|event| (event.id, event)).collect(),
            records: 4,
            poison_records: 2,
        }
    }

    fn whole() -> Found {
        let id = Uuid::from_u128;
        Found {
            effects: [(id(1), 1), (id(2), 1)].into(),
            letters: vec![Some(id(3)), Some(id(3))],
            totals: [(2, (2, 6))].into(),
            states: [(1, 2)].into(),
            cache: [(1, 2)].into(),
        }
    }

    #[test]
    fn each_violation_is_counted_as_what_it_is() {
        let (id, whole) = (Uuid::from_u128, whole());
        let cases = [
            (Found { effects: [(id(2), 1)].into(), ..whole.clone() }, vec!["lost"]),
            (Found { effects: [(id(1), 1), (id(2), 2)].into(), ..whole.clone() }, vec!["counted twice"]),
            (
                Found { effects: [(id(1), 1), (id(2), 1), (id(3), 1)].into(), ..whole.clone() },
                vec!["counted for nothing"],
            ),
            (Found { totals: [(2, (2, 7))].into(), ..whole.clone() }, vec!["wrong counters"]),
            (Found { cache: [(1, 1)].into(), ..whole.clone() }, vec!["stale in the cache"]),
            (
                Found { states: [(1, 1)].into(), cache: [(1, 1)].into(), ..whole.clone() },
                vec!["wrong states"],
            ),
            (
                Found { letters: vec![Some(id(3))], ..whole.clone() },
                vec!["records of poison beside their letters"],
            ),
            (
                Found { letters: vec![Some(id(1)); 2], ..whole.clone() },
                vec!["letters without poison", "poison without a letter"],
            ),
            (Found { letters: vec![Some(id(3)), None], ..whole.clone() }, vec!["letters without an event"]),
            (whole, vec![]),
        ];
        for (found, expected) in cases {
            let violations = compare(&ledger(), &found, false);
            assert_eq!(violations.keys().copied().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn poison_that_was_brought_back_must_have_its_effect() {
        let mut found = whole();
        assert!(compare(&ledger(), &found, true).contains_key("lost"));
        found.effects.insert(Uuid::from_u128(3), 1);
        (found.totals, found.states) = ([(2, (3, 9))].into(), [(1, 3)].into());
        found.cache.clone_from(&found.states);
        assert_eq!(compare(&ledger(), &found, true), Violations::new());
    }
}
