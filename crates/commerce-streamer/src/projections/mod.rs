//! One file for each projection.

pub(crate) mod metrics;
pub(crate) mod stock;

use commerce_events::{DecodeError, Event};
use inbox::{RecordView, Refusal};

/// Decodes a record by the contract of the shop's events; `None` is a type that the contract does not know, which other
/// services may send. What is wrong with a record becomes the dead letter's reason.
fn decode(record: &RecordView<'_>) -> Result<Option<Event>, Refusal> {
    decode_parts(record.event_type, record.key, record.value)
}

fn decode_parts(
    event_type: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Option<Event>, Refusal> {
    match commerce_events::decode(event_type, key, value) {
        Ok(event) => Ok(Some(event)),
        Err(DecodeError::UnknownType(_)) => Ok(None),
        Err(error) => Err(Refusal { reason: reason(&error), error: chain(&error) }),
    }
}

/// The slug that operators group by.
const fn reason(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::UnknownType(_) => "unknown_event_type",
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

#[cfg(test)]
mod tests {
    use super::decode_parts;

    #[test]
    fn an_unknown_type_is_left_to_the_settings_and_an_unknown_major_version_is_refused() {
        let decode = |event_type| {
            decode_parts(event_type, Some(b"7"), Some(br#"{"productId":7,"userId":1}"#))
                .map(|event| event.is_some())
                .map_err(|refusal| refusal.reason)
        };
        assert_eq!(decode("ProductLiked"), Ok(true));
        assert_eq!(decode("CouponIssued"), Ok(false));
        assert_eq!(decode("CouponIssued.v2"), Ok(false));
        assert_eq!(decode("ProductLiked.v2"), Err("unknown_version"));
        // Whatever follows the name, it is of this contract and must not be passed over.
        assert_eq!(decode("ProductLiked.vNext"), Err("unknown_version"));
    }
}
