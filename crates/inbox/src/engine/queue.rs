//! Letters that waited in the order of their key, as records again. Pure.

use kafka_client::{RecordBatch, TopicPartition};

use super::plan::{Fate, Identity, Plan, Rejection};
use crate::dead_letter::{LetterStatus, record_time, stored_headers};
use crate::projection::Projection;
use crate::settings::UnknownTypes;
use crate::store::blocked::QueuedLetter;

/// Why a letter whose record is not stored whole cannot have its turn.
const NOT_STORED_WHOLE: &str = "not_stored_whole";

/// The first letters of a queue: all of one partition, and none that waits for an operator.
pub(crate) struct Chunk<E> {
    pub(crate) origin: TopicPartition,
    pub(crate) letters: Vec<QueuedLetter>,
    /// A record of each letter; an event that was given up is to be remembered, and has no effect.
    pub(crate) plan: Plan<E>,
}

impl<E> Chunk<E> {
    /// Nothing if the first letter waits for an operator, or there is none.
    pub(crate) fn new<P: Projection<Event = E>>(
        mut letters: Vec<QueuedLetter>,
        projection: &P,
        short_topic: &str,
        unknown: UnknownTypes,
    ) -> Option<Self> {
        let first = letters.first()?;
        let origin =
            TopicPartition { topic: first.row.topic.as_str().into(), partition: first.row.partition };
        let is_of_it = |letter: &QueuedLetter| {
            letter.row.partition == origin.partition && !LetterStatus::OPEN.contains(&letter.status)
        };
        let count = letters.iter().take_while(|letter| is_of_it(letter)).count();
        if count == 0 {
            return None;
        }
        letters.truncate(count);
        let mut plan = Plan::new(batch(&origin, &letters));
        plan.decode(projection, short_topic, unknown, count);
        for (index, letter) in letters.iter().enumerate() {
            if is_given_up(letter) {
                plan.give_up(index);
            } else if let Some(lacks) = &letter.row.lacks {
                let error = format!(
                    "{lacks} of its record is missing or cut: discard it, or correct the read model by hand"
                );
                plan.reject(index, Rejection::new(NOT_STORED_WHOLE, error));
            }
        }
        Some(Self { origin, letters, plan })
    }

    /// How many letters can have their turn before one fails, and why that one does.
    pub(crate) fn passable(&self) -> (usize, Option<&Rejection>) {
        for (index, letter) in self.letters.iter().enumerate() {
            if let (Fate::Reject(rejection), false) = (&self.plan.fates[index], is_given_up(letter)) {
                return (index, Some(rejection));
            }
        }
        (self.letters.len(), None)
    }

    /// Which events the first letters carry.
    pub(crate) fn identities(&self, count: usize) -> impl Iterator<Item = (usize, Identity)> {
        self.plan.fates[..count].iter().enumerate().filter_map(|(index, fate)| match fate {
            Fate::Apply(identity) => Some((index, *identity)),
            Fate::Skip | Fate::SkipUnknown | Fate::Reject(_) => None,
        })
    }

    /// Takes the events of new records out, without those that were given up; answers how many of either there are.
    pub(crate) fn take(&mut self, fresh: &[usize]) -> (Vec<E>, usize) {
        let events = fresh.iter().filter_map(|index| self.plan.events[*index].take());
        let events: Vec<E> = events.collect();
        let given_up = fresh.len() - events.len();
        (events, given_up)
    }
}

fn is_given_up(letter: &QueuedLetter) -> bool {
    letter.status == LetterStatus::Discarded
}

fn batch(origin: &TopicPartition, letters: &[QueuedLetter]) -> RecordBatch {
    let mut batch = RecordBatch::new(origin.clone(), 0);
    for QueuedLetter { row, .. } in letters {
        let headers = stored_headers(&row.headers);
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        batch.push(row.offset, record_time(row), row.key.as_deref(), row.value.as_deref(), headers);
    }
    batch
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::dead_letter::sample_letter;
    use crate::projection::{Decision, OrderingMode, RecordView, Refusal};
    use crate::store::dead_letter::Row;

    /// Refuses values that begin with `bad`.
    struct Names;

    impl Projection for Names {
        type Event = String;

        fn ordering(&self) -> OrderingMode {
            OrderingMode::Strict
        }

        fn decode(&self, record: &RecordView<'_>) -> Result<Decision<String>, Refusal> {
            let name = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            if name.starts_with("bad") {
                return Err(Refusal { reason: "malformed", error: name });
            }
            Ok(Decision::Apply(name))
        }

        async fn apply(
            &self,
            _: &mut sqlx::PgConnection,
            _: &str,
            _: i32,
            _: &[String],
        ) -> Result<(), sqlx::Error> {
            Ok(())
        }

        async fn committed(&self, _: &[String]) {}
    }

    fn queued(turn: i64, partition: i32, status: LetterStatus, name: &str) -> QueuedLetter {
        let id = Uuid::from_u128(u128::try_from(turn).unwrap()).to_string();
        let headers = serde_json::json!([{"name": "ce_type", "utf8": "A"}, {"name": "ce_id", "utf8": id}]);
        let value = Some(name.as_bytes().to_vec());
        let row = Row { partition, offset: turn, value, headers, lacks: None, ..sample_letter() };
        QueuedLetter { turn, status, row }
    }

    fn chunk(letters: Vec<QueuedLetter>) -> Option<Chunk<String>> {
        Chunk::new(letters, &Names, "t", UnknownTypes::Skip)
    }

    #[test]
    fn a_chunk_ends_before_another_partition_and_before_what_waits_for_an_operator() {
        let (redriven, blocked) = (LetterStatus::Redriven, LetterStatus::Blocked);
        let letters =
            |third: QueuedLetter| vec![queued(1, 0, redriven, "a"), queued(2, 0, blocked, "b"), third];
        for third in [queued(3, 1, blocked, "c"), queued(3, 0, LetterStatus::Published, "c")] {
            let chunk = chunk(letters(third)).unwrap();
            assert_eq!((chunk.letters.len(), chunk.passable()), (2, (2, None)));
        }
        assert!(chunk(vec![queued(1, 0, LetterStatus::New, "a")]).is_none());
        assert!(chunk(Vec::new()).is_none());
    }

    #[test]
    fn a_discarded_event_is_known_and_has_no_effect_even_if_it_cannot_be_read() {
        let letters = ["bad", "good", "c"].into_iter().zip(1..).map(|(name, turn)| {
            let status = if turn < 3 { LetterStatus::Discarded } else { LetterStatus::Blocked };
            queued(turn, 0, status, name)
        });
        let mut chunk = chunk(letters.collect()).unwrap();
        assert_eq!((chunk.passable(), chunk.identities(3).count()), ((3, None), 3));
        assert_eq!(chunk.take(&[0, 1, 2]), (vec!["c".to_owned()], 2));
    }

    #[test]
    fn letters_pass_up_to_the_one_that_fails() {
        let blocked = LetterStatus::Blocked;
        let mut cut = queued(3, 0, blocked, "c");
        cut.row.lacks = Some("value".to_owned());
        let fails = |last: QueuedLetter| {
            let chunk = chunk(vec![queued(1, 0, blocked, "a"), queued(2, 0, blocked, "b"), last]).unwrap();
            let (count, rejection) = chunk.passable();
            (count, rejection.map(|rejection| rejection.reason))
        };
        assert_eq!(fails(queued(3, 0, blocked, "bad")), (2, Some("malformed")));
        assert_eq!(fails(cut), (2, Some("not_stored_whole")));
    }
}
