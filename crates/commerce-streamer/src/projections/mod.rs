//! One file for each projection.

pub(crate) mod metrics;
pub(crate) mod stock;

use commerce_events::{DecodeError, Event};
use inbox::{RecordView, Refusal};

/// Decodes a record by the contract of the shop's events; `None` is a type that the contract does not know, which other
/// services may send. What is wrong with a record becomes the dead letter's reason.
fn decode(record: &RecordView<'_>) -> Result<Option<Event>, Refusal> {
    match commerce_events::decode(record.event_type, record.key, record.value) {
        Ok(event) => Ok(Some(event)),
        Err(DecodeError::UnknownType(_)) => Ok(None),
        Err(error) => Err(Refusal { reason: reason(&error), error: chain(&error) }),
    }
}

/// The slug that operators group by.
const fn reason(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::UnknownType(_) => "unknown_type",
        DecodeError::UnknownVersion { .. } => "unknown_version",
        DecodeError::Empty => "empty",
        DecodeError::Malformed { .. } => "malformed",
        DecodeError::OutOfBounds { .. } => "out_of_bounds",
        DecodeError::KeyMismatch { .. } => "key_mismatch",
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
