//! What becomes of any record, and whether what is stored and sent of it is sound, for the fuzzer.

use kafka_client::RecordBatch;

use crate::dead_letter::fuzzing::check_letter;
pub use crate::dead_letter::fuzzing::check_stored_headers;
use crate::engine::identity::week;
use crate::engine::plan::{Fate, Identity, Plan, Rejection, occurred_at};
use crate::projection::Projection;
use crate::settings::UnknownTypes;

/// What becomes of a record as far as it alone tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied, unless an event with this identity was handled before: `source#sequence`, or the id.
    Applied(String),
    /// The projection does not use it, or does not know its type.
    Skipped,
    /// It becomes a dead letter for this reason.
    Rejected(&'static str),
}

/// The outcome of every record of a batch from `topic`.
///
/// # Panics
/// When a plan, a dead letter, or a record that is made of one breaks its contract.
pub fn check_batch<P: Projection>(projection: &P, topic: &str, batch: RecordBatch) -> Vec<Outcome> {
    let mut plan = Plan::new(batch);
    while plan.decode(projection, topic, UnknownTypes::Skip, 2) {}
    assert_eq!(plan.fates.len(), plan.batch.len());
    assert_eq!(plan.events.len(), plan.batch.len());
    for (index, record) in plan.batch.iter().enumerate() {
        assert_eq!(plan.events[index].is_some(), matches!(plan.fates[index], Fate::Apply(_)));
        let _ = occurred_at(&record);
        let fate = &plan.fates[index];
        // A record that the projection takes can still be refused by the database.
        let refused = Rejection::new("refused", format!("{fate:?}"));
        check_letter(&plan.batch.origin, &record, if let Fate::Reject(own) = fate { own } else { &refused });
    }
    let outcomes = plan.fates.iter().map(|fate| outcome(fate, &plan.sources)).collect();
    for index in 0..plan.batch.len() {
        plan.give_up(index);
        assert!(!matches!(plan.fates[index], Fate::Reject(_)));
    }
    outcomes
}

fn outcome(fate: &Fate, sources: &[String]) -> Outcome {
    match fate {
        Fate::Apply(Identity::Sequence { source, sequence, lane }) => {
            assert!(*sequence >= 0 && (0..24).contains(lane));
            Outcome::Applied(format!("{}#{sequence}", sources[*source]))
        }
        Fate::Apply(Identity::Id(id)) => {
            assert!(week(*id) >= -1);
            Outcome::Applied(id.to_string())
        }
        Fate::Skip | Fate::SkipUnknown => Outcome::Skipped,
        Fate::Reject(rejection) => Outcome::Rejected(rejection.reason),
    }
}
