//! How the verifier reads a record, for the fuzzer.

use kafka_client::StoredRecord;

use super::scan::read;
use super::seen::Identity;

/// The event that the verifier sees in a record that is no dead letter, by `source#sequence` or its id; `None` for a record that
/// is no event.
#[must_use]
pub fn seen_event(record: &StoredRecord) -> Option<String> {
    let (_, identity) = read(record)?;
    Some(match identity {
        Identity::Sequence { source, sequence } => format!("{source}#{sequence}"),
        Identity::Id(id) => id.to_string(),
    })
}
