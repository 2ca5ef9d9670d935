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
    /// Events in the order of their effects.
    effects: Vec<Uuid>,
    /// Events of letters, as often as there are letters of them.
    letters: Vec<Option<Uuid>>,
    totals: BTreeMap<i64, (i64, i64)>,
    states: BTreeMap<i64, i64>,
    cache: BTreeMap<i64, i64>,
}

impl Found {
    async fn load(connection: &mut PgConnection) -> Result<Self> {
        let letters = store::list_letters(connection).await?;
        Ok(Self {
            effects: store::list_effects(connection).await?,
            letters: letters.iter().map(|(_, event)| event_of(event.as_deref())).collect(),
            totals: store::list_totals(connection).await?,
            states: store::list_states(connection).await?,
            cache: store::list_cache(connection).await?,
        })
    }
}

fn event_of(text: Option<&str>) -> Option<Uuid> {
    text.and_then(|id| id.parse().ok())
}

/// Compares effects and letters with the ledger. `is_redriven`: every letter's event has had its effect since.
pub(crate) async fn judge(
    connection: &mut PgConnection,
    ledger: &Ledger,
    is_redriven: bool,
) -> Result<Violations> {
    let found = Found::load(connection).await?;
    let is_due = |event: &Event| is_redriven || event.kind == Kind::Good;
    let mut violations = compare_effects(ledger, &found, is_due);
    violations.extend(compare_letters(ledger, &found));
    Ok(violations)
}

/// The same for a strict projection, when operators have dealt with all that waited: each event but those that they gave up
/// has had its effect, in its turn.
pub(crate) async fn judge_strict(connection: &mut PgConnection, ledger: &Ledger) -> Result<Violations> {
    let found = Found::load(connection).await?;
    let given_up = store::list_given_up(connection).await?;
    let given_up: BTreeSet<Uuid> = given_up.iter().filter_map(|event| event_of(event.as_deref())).collect();
    let mut violations = compare_effects(ledger, &found, |event| !given_up.contains(&event.id));
    let (keys, letters) = store::count_waiting(connection).await?;
    let waiting = [
        ("keys out of order", count_disordered(ledger, &found.effects)),
        ("keys blocked for nothing", u64::try_from(keys)?),
        ("letters that wait for nothing", u64::try_from(letters)?),
    ];
    violations.extend(waiting.into_iter().filter(|(_, count)| *count > 0));
    Ok(violations)
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

fn compare_effects(ledger: &Ledger, found: &Found, is_due: impl Fn(&Event) -> bool) -> Violations {
    let due: BTreeMap<Uuid, &Event> =
        ledger.events.values().filter(|event| is_due(event)).map(|event| (event.id, event)).collect();
    let mut effects = BTreeMap::<Uuid, u64>::new();
    for id in &found.effects {
        *effects.entry(*id).or_default() += 1;
    }
    let (mut totals, mut states) = (BTreeMap::<i64, (i64, i64)>::new(), BTreeMap::<i64, i64>::new());
    for event in due.values() {
        let total = totals.entry(event.product).or_default();
        *total = (total.0 + 1, total.1 + event.amount);
        let version = states.entry(event.key).or_default();
        *version = event.version.max(*version);
    }
    present([
        ("lost", count(due.keys().filter(|id| !effects.contains_key(*id)))),
        ("counted twice", count(effects.values().filter(|times| **times > 1))),
        ("counted for nothing", count(effects.keys().filter(|id| !due.contains_key(*id)))),
        ("wrong counters", differences(&totals, &found.totals)),
        ("wrong states", differences(&states, &found.states)),
        ("stale in the cache", differences(&found.states, &found.cache)),
    ])
}

fn compare_letters(ledger: &Ledger, found: &Found) -> Violations {
    let lettered: BTreeSet<Uuid> = found.letters.iter().flatten().copied().collect();
    let is_poison = |id: &Uuid| ledger.events.get(id).is_some_and(|event| event.kind != Kind::Good);
    let poison = ledger.events.values().filter(|event| event.kind != Kind::Good);
    present([
        ("poison without a letter", count(poison.filter(|event| !lettered.contains(&event.id)))),
        ("letters without poison", count(lettered.iter().filter(|id| !is_poison(id)))),
        ("letters without an event", count(found.letters.iter().filter(|event| event.is_none()))),
        (
            "records of poison beside their letters",
            ledger.poison_records.abs_diff(count(found.letters.iter())),
        ),
    ])
}

/// Keys with an effect that came before that of an earlier event.
fn count_disordered(ledger: &Ledger, effects: &[Uuid]) -> u64 {
    let (mut last, mut disordered) = (BTreeMap::<i64, u64>::new(), BTreeSet::new());
    for id in effects {
        let (Some(event), Some(number)) = (ledger.events.get(id), ledger.numbers.get(id)) else { continue };
        if last.insert(event.key, *number).is_some_and(|before| before >= *number) {
            disordered.insert(event.key);
        }
    }
    count(disordered.iter())
}

fn present<const N: usize>(found: [(&'static str, u64); N]) -> Violations {
    found.into_iter().filter(|(_, count)| *count > 0).collect()
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
            numbers: (0..3).map(|number| (Uuid::from_u128(u128::from(number) + 1), number)).collect(),
            records: 4,
            poison_records: 2,
        }
    }

    fn whole() -> Found {
        let id = Uuid::from_u128;
        Found {
            effects: vec![id(1), id(2)],
            letters: vec![Some(id(3)), Some(id(3))],
            totals: [(2, (2, 6))].into(),
            states: [(1, 2)].into(),
            cache: [(1, 2)].into(),
        }
    }

    fn compare(found: &Found, is_redriven: bool) -> Vec<&'static str> {
        let mut violations =
            compare_effects(&ledger(), found, |event| is_redriven || event.kind == Kind::Good);
        violations.extend(compare_letters(&ledger(), found));
        violations.into_keys().collect()
    }

    #[test]
    fn each_violation_is_counted_as_what_it_is() {
        let (id, whole) = (Uuid::from_u128, whole());
        let effects =
            |ids: &[u128]| Found { effects: ids.iter().copied().map(id).collect(), ..whole.clone() };
        let letters = |letters: &[Option<u128>]| Found {
            letters: letters.iter().map(|letter| letter.map(id)).collect(),
            ..whole.clone()
        };
        let cases = [
            (effects(&[2]), vec!["lost"]),
            (effects(&[1, 2, 2]), vec!["counted twice"]),
            (effects(&[1, 2, 3]), vec!["counted for nothing"]),
            (Found { totals: [(2, (2, 7))].into(), ..whole.clone() }, vec!["wrong counters"]),
            (Found { cache: [(1, 1)].into(), ..whole.clone() }, vec!["stale in the cache"]),
            (
                Found { states: [(1, 1)].into(), cache: [(1, 1)].into(), ..whole.clone() },
                vec!["wrong states"],
            ),
            (letters(&[Some(3)]), vec!["records of poison beside their letters"]),
            (letters(&[Some(1), Some(1)]), vec!["letters without poison", "poison without a letter"]),
            (letters(&[Some(3), None]), vec!["letters without an event"]),
            (whole.clone(), vec![]),
        ];
        for (found, expected) in cases {
            assert_eq!(compare(&found, false), expected);
        }
    }

    #[test]
    fn poison_that_was_brought_back_must_have_its_effect() {
        let mut found = whole();
        assert!(compare(&found, true).contains(&"lost"));
        found.effects.push(Uuid::from_u128(3));
        (found.totals, found.states) = ([(2, (3, 9))].into(), [(1, 3)].into());
        found.cache.clone_from(&found.states);
        assert!(compare(&found, true).is_empty());
    }

    #[test]
    fn an_effect_before_that_of_an_earlier_event_of_its_key_is_disorder() {
        let effects = |ids: &[u128]| ids.iter().copied().map(Uuid::from_u128).collect::<Vec<_>>();
        assert_eq!(count_disordered(&ledger(), &effects(&[1, 3])), 0);
        assert_eq!(count_disordered(&ledger(), &effects(&[1, 3, 2])), 1);
        let mut other = ledger();
        if let Some(event) = other.events.get_mut(&Uuid::from_u128(3)) {
            event.key = 7;
        }
        assert_eq!(count_disordered(&other, &effects(&[1, 3, 2])), 0);
    }
}
