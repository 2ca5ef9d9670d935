//! What a relay may use, and how eager it is.

use std::time::Duration;

use kafka_client::{ProducerSettings, refuse_weak_settings};

use super::RelayError;
use super::prefix::InFlightLimits;

/// Settings of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// Name of this process among all relays of the database; the same after a restart, so that it takes its own
    /// shards back at once. Two living relays must not share a name: they would take the shards from each other.
    pub owner: String,
    /// How records are sent. Its queue must hold what may be in flight.
    pub producer: ProducerSettings,
    /// How long a shard stays owned without a sign of life, by the database's clock.
    pub lease: Duration,
    /// Most events of a batch, the unit in which acknowledgements are counted.
    pub batch_events_max: usize,
    /// Most events that are sent and not yet in the acknowledged prefix: after a crash so many are sent again.
    pub in_flight_events_max: usize,
    /// As many bytes of payload, headers and keys.
    pub in_flight_bytes_max: usize,
    /// Pause after a poll that found a few events.
    pub busy_pause: Duration,
    /// Longest pause while nothing is found.
    pub idle_pause_max: Duration,
    /// Shortest time between two writes of a position.
    pub position_interval: Duration,
    /// Most keys that may be blocked by a record that the broker refuses. Beyond it the fault is hardly in the records:
    /// the relay waits instead of parking more. 0 parks nothing.
    pub parked_keys_max: usize,
    /// Longest wait for acknowledgements on shutdown.
    pub shutdown_grace: Duration,
}

impl RelaySettings {
    /// Defaults: 5 s lease, batches of 1,000, at most 32,000 events and 32 MiB in flight, pauses of 1 to 50 ms, a
    /// position every 10 ms, 10,000 parked keys, 5 s for shutdown.
    #[must_use]
    pub fn new(owner: impl Into<String>, producer: ProducerSettings) -> Self {
        Self {
            owner: owner.into(),
            producer,
            lease: Duration::from_secs(5),
            batch_events_max: 1_000,
            in_flight_events_max: 32_000,
            in_flight_bytes_max: 32 * 1024 * 1024,
            busy_pause: Duration::from_millis(1),
            idle_pause_max: Duration::from_millis(50),
            position_interval: Duration::from_millis(10),
            parked_keys_max: 10_000,
            shutdown_grace: Duration::from_secs(5),
        }
    }

    /// Checks the values and their relations.
    ///
    /// # Errors
    /// Names the first rule that is broken.
    pub fn check(&self) -> Result<(), RelayError> {
        refuse_weak_settings(&self.producer.client.options)?;
        let queue_bytes = u64::from(self.producer.queue_kbytes_max) * 1024;
        let queue_events = u64::from(self.producer.queue_messages_max);
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let rules = [
            (!self.owner.is_empty(), "owner must not be empty"),
            (self.lease >= LEASE_MIN, "lease must be at least 100 ms"),
            (self.batch_events_max > 0, "batch_events_max must not be 0"),
            (self.in_flight_events_max >= self.batch_events_max, "in_flight_events_max must hold one batch"),
            (self.in_flight_bytes_max >= IN_FLIGHT_BYTES_MIN, "in_flight_bytes_max must be at least 64 KiB"),
            (
                wide(self.in_flight_events_max) <= queue_events,
                "in_flight_events_max must fit queue_messages_max",
            ),
            (wide(self.in_flight_bytes_max) <= queue_bytes, "in_flight_bytes_max must fit queue_kbytes_max"),
        ];
        match rules.into_iter().find(|(kept, _)| !kept) {
            Some((_, rule)) => Err(RelayError::Settings(rule)),
            None => Ok(()),
        }
    }

    pub(crate) fn in_flight_limits(&self) -> InFlightLimits {
        InFlightLimits { events_max: self.in_flight_events_max, bytes_max: self.in_flight_bytes_max }
    }

    /// A batch ends after so many bytes, so that several fit what may be in flight.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        self.in_flight_bytes_max / BATCHES_IN_FLIGHT
    }
}

/// A shorter lease would be lost to ordinary delays.
const LEASE_MIN: Duration = Duration::from_millis(100);
/// Less would not hold several batches of ordinary events.
const IN_FLIGHT_BYTES_MIN: usize = 64 * 1024;
/// Batches of the largest size that fit the bytes in flight.
const BATCHES_IN_FLIGHT: usize = 16;

#[cfg(test)]
mod tests {
    use kafka_client::ClientSettings;

    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_each_broken_rule_is_not() {
        let settings =
            RelaySettings::new("a", ProducerSettings::new(ClientSettings::new("broker:9092", "relay")));
        assert!(settings.check().is_ok());
        type Break = fn(&mut RelaySettings);
        let cases: [Break; 8] = [
            |settings| settings.owner.clear(),
            |settings| settings.lease = Duration::from_millis(99),
            |settings| settings.batch_events_max = 0,
            |settings| settings.in_flight_events_max = settings.batch_events_max - 1,
            |settings| settings.in_flight_bytes_max = 1,
            |settings| settings.producer.queue_messages_max = 1_000,
            |settings| settings.producer.queue_kbytes_max = 1_024,
            |settings| {
                settings.producer.client.options.insert("acks".to_owned(), "1".to_owned());
            },
        ];
        for (number, breaking) in cases.into_iter().enumerate() {
            let mut settings = settings.clone();
            breaking(&mut settings);
            assert!(settings.check().is_err(), "case {number}");
        }
    }
}
