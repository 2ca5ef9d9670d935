//! What a failed session means: end, or begin again, and under which name. Pure.

use kafka_client::{DeliveryError, PublishError, SendError, Trouble};

use super::RelayError;
use super::guard::Refusal;
use super::session::SessionError;

/// Why a session failed: a name with few values, for metrics and for telling whether the state has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The database failed or was silent.
    Database,
    /// Shards were lost to another relay, or leases ran out.
    Lease,
    /// A record was refused; the next session finds out whether for good, and parks it then.
    Refused,
    /// Records of so many keys are refused that they are not parked.
    ParkingFull,
    /// A topic is not there.
    UnknownTopic,
    /// The brokers do not allow it.
    Unauthorised,
    /// A quota is used up.
    Quota,
    /// The brokers or the way to them.
    Broker,
    /// A stored position is not readable.
    Stored,
    /// A task of the relay died.
    Died,
}

impl Reason {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Lease => "lease",
            Self::Refused => "refused",
            Self::ParkingFull => "parking_full",
            Self::UnknownTopic => Trouble::UnknownTopic.name(),
            Self::Unauthorised => Trouble::Unauthorised.name(),
            Self::Quota => Trouble::Quota.name(),
            Self::Broker => Trouble::Broker.name(),
            Self::Stored => "stored",
            Self::Died => "died",
        }
    }
}

/// Whether the relay begins again, and why it must; or the error with which it ends.
///
/// Everything that may pass by itself is tried again for as long as it takes: the rows stay.
pub(crate) fn disposition(error: SessionError, has_worked: bool) -> Result<Reason, RelayError> {
    Ok(match error {
        // After a failover the old address may lead to a replica for a while.
        SessionError::Refused(Refusal::InRecovery) if has_worked => Reason::Database,
        SessionError::Refused(refusal) => return Err(RelayError::Refused(refusal)),
        SessionError::Producer(error) => return Err(RelayError::Producer(error)),
        SessionError::Database(_) | SessionError::Silent(_) => Reason::Database,
        SessionError::LeaseExpired | SessionError::OwnershipLost { .. } => Reason::Lease,
        SessionError::Send { error, .. } => of_send(&error),
        SessionError::Delivery(error) => of_delivery(&error),
        SessionError::Publish(PublishError::Send(error)) => of_send(&error),
        SessionError::Publish(PublishError::Delivery(error)) => of_delivery(&error),
        SessionError::Headers { .. } => Reason::Refused,
        SessionError::ParkingFull(_) => Reason::ParkingFull,
        SessionError::Snapshot(_) => Reason::Stored,
        SessionError::Died(_) => Reason::Died,
    })
}

fn of_delivery(error: &DeliveryError) -> Reason {
    match error {
        DeliveryError::Refused { .. } => Reason::Refused,
        DeliveryError::Passes { trouble, .. } => of_trouble(*trouble),
        DeliveryError::Dropped | DeliveryError::Fatal(_) => Reason::Broker,
    }
}

fn of_send(error: &SendError) -> Reason {
    match error {
        SendError::Refused { .. } => Reason::Refused,
        SendError::Passes { trouble, .. } => of_trouble(*trouble),
        SendError::QueueFull | SendError::Fatal(_) => Reason::Broker,
    }
}

fn of_trouble(trouble: Trouble) -> Reason {
    match trouble {
        Trouble::UnknownTopic => Reason::UnknownTopic,
        Trouble::Unauthorised => Reason::Unauthorised,
        Trouble::Quota => Reason::Quota,
        Trouble::Broker => Reason::Broker,
    }
}

#[cfg(test)]
mod tests {
    use kafka_client::Refusal as RecordRefusal;

    use super::*;

    fn send(error: SendError) -> SessionError {
        SessionError::Send { id: 1, error }
    }

    fn passes(trouble: Trouble) -> SendError {
        SendError::Passes { topic: "things".to_owned(), trouble, reason: String::new() }
    }

    #[test]
    fn what_may_pass_is_tried_again_under_its_name() {
        let refused = SendError::Refused {
            topic: "things".to_owned(),
            refusal: RecordRefusal::TooLarge,
            reason: String::new(),
        };
        for (error, name) in [
            (SessionError::Database(sqlx::Error::PoolClosed), "database"),
            (SessionError::Silent("a poll"), "database"),
            (SessionError::LeaseExpired, "lease"),
            (SessionError::OwnershipLost { owned: 1, shards: 2 }, "lease"),
            (send(refused), "refused"),
            (send(passes(Trouble::UnknownTopic)), "unknown_topic"),
            (send(passes(Trouble::Unauthorised)), "unauthorised"),
            (SessionError::Publish(PublishError::Send(passes(Trouble::Quota))), "quota"),
            (SessionError::Publish(PublishError::Delivery(DeliveryError::Dropped)), "broker"),
            (SessionError::Delivery(DeliveryError::Fatal(String::new())), "broker"),
        ] {
            let text = error.to_string();
            assert_eq!(disposition(error, true).unwrap().name(), name, "{text}");
        }
    }

    #[test]
    fn a_replica_is_waited_for_only_by_a_relay_that_has_worked() {
        let in_recovery = || SessionError::Refused(Refusal::InRecovery);
        assert!(disposition(in_recovery(), false).is_err());
        assert_eq!(disposition(in_recovery(), true).unwrap(), Reason::Database);
        assert!(disposition(SessionError::Refused(Refusal::PositionAhead), true).is_err());
    }
}
