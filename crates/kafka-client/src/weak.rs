//! Refuses options that would weaken what the producer promises.

use std::collections::BTreeMap;

use thiserror::Error;

/// An option that weakens delivery or order.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("producer option {name} = {value} is refused: {reason}")]
pub struct WeakSetting {
    /// The option by librdkafka's name.
    pub name: String,
    /// The value that was asked for.
    pub value: String,
    /// What the producer needs instead.
    pub reason: &'static str,
}

/// Most requests in flight with which an idempotent producer still keeps order.
const IN_FLIGHT_MAX: u32 = 5;

/// Refuses overrides that weaken acknowledgements, idempotence, order, or the partitioner.
///
/// # Errors
/// Names the first such option.
pub fn refuse_weak_settings(options: &BTreeMap<String, String>) -> Result<(), WeakSetting> {
    for (name, value) in options {
        if let Some(reason) = weakness(name, value.trim()) {
            return Err(WeakSetting { name: name.clone(), value: value.clone(), reason });
        }
    }
    Ok(())
}

fn weakness(name: &str, value: &str) -> Option<&'static str> {
    let (fine, reason) = match name {
        "acks" | "request.required.acks" => {
            (matches!(value, "all" | "-1"), "every in-sync replica must have the record")
        }
        "enable.idempotence" => (value == "true", "retries would reorder and duplicate records"),
        "partitioner" => (value == "murmur2_random", "other clients would find keys in other partitions"),
        "max.in.flight" | "max.in.flight.requests.per.connection" => {
            let in_range = value.parse::<u32>().is_ok_and(|count| (1..=IN_FLIGHT_MAX).contains(&count));
            (in_range, "order is kept with 1 to 5 requests in flight")
        }
        "message.timeout.ms" | "delivery.timeout.ms" => {
            (value == "0", "records must stay queued, in order, over an outage of any length")
        }
        "retries" | "message.send.max.retries" => (
            value.parse::<u32>().is_ok_and(|count| count >= 1_000_000),
            "a record must be retried until it is stored",
        ),
        "enable.gapless.guarantee" => (value == "true", "a later record must not overtake a refused one"),
        "transactional.id" => (false, "records outside a transaction would be refused"),
        "dr_cb" | "dr_msg_cb" | "delivery.report.only.error" => {
            (name == "delivery.report.only.error" && value == "false", "acknowledgements must be reported")
        }
        _ => (true, ""),
    };
    (!fine).then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weakening_options_are_refused_and_others_are_not() {
        for (name, value, refused) in [
            ("acks", "1", true),
            ("acks", "all", false),
            ("request.required.acks", "0", true),
            ("request.required.acks", "-1", false),
            ("enable.idempotence", "false", true),
            ("enable.idempotence", "true", false),
            ("partitioner", "consistent_random", true),
            ("partitioner", "murmur2_random", false),
            ("max.in.flight", "6", true),
            ("max.in.flight.requests.per.connection", "1000000", true),
            ("max.in.flight.requests.per.connection", "1", false),
            ("message.timeout.ms", "30000", true),
            ("delivery.timeout.ms", "0", false),
            ("retries", "0", true),
            ("enable.gapless.guarantee", "false", true),
            ("transactional.id", "relay", true),
            ("delivery.report.only.error", "true", true),
            ("linger.ms", "20", false),
            ("sasl.mechanism", "PLAIN", false),
        ] {
            let options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(refuse_weak_settings(&options).is_err(), refused, "{name} = {value}");
        }
    }
}
