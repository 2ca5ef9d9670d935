//! How the verifier reads a record, for the fuzzer.

use kafka_client::StoredRecord;

use super::scan::read;
use super::seen::Identity;

/// Which event the verifier counts: source and sequence, or the id.
pub type SeenEvent = Result<(String, u64), String>;

/// The event that the verifier sees in a record that is no dead letter; `None` for a record that is no event.
#[must_use]
pub fn seen_event(record: &StoredRecord) -> Option<SeenEvent> {
    let (_, identity) = read(record)?;
    Some(match identity {
        Identity::Sequence { source, sequence } => Ok((source.to_owned(), sequence)),
        Identity::Id(id) => Err(id.to_string()),
    })
}
