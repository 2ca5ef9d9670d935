//! What an error of the client library means for the record it is about. Pure.
//!
//! A record counts as refused only for what the record itself is: its size, its contents. Everything else, and every
//! code that is not known here, is trouble that passes: giving up a record on a guess would lose it.

use rdkafka::error::RDKafkaErrorCode;

/// Why a record can never be stored as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Larger than the broker, the topic or the client allows.
    TooLarge,
    /// The broker finds fault with what is in it.
    Invalid,
}

impl Refusal {
    /// A name with few values, for metrics and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
        }
    }
}

/// Why a record cannot be stored at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The topic or its partition is not there (yet).
    UnknownTopic,
    /// The brokers do not know the client, or do not allow it to write.
    Unauthorised,
    /// The client has used up what it may use.
    Quota,
    /// Anything else: connections, leaders, replicas, disks, configurations.
    Broker,
}

impl Trouble {
    /// A name with few values, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownTopic => "unknown_topic",
            Self::Unauthorised => "unauthorised",
            Self::Quota => "quota",
            Self::Broker => "broker",
        }
    }
}

/// What an error code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The record, or another one of its request, can never be stored.
    Refused(Refusal),
    /// It can be stored later.
    Passes(Trouble),
    /// The client itself gave the record up because its owner wanted so.
    Dropped,
    /// The producer has ended.
    Fatal,
}

/// Judges the code of a failed delivery or of a client's error.
pub(crate) fn judge(code: Option<RDKafkaErrorCode>) -> Verdict {
    use RDKafkaErrorCode as Code;
    let Some(code) = code else { return Verdict::Passes(Trouble::Broker) };
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => Verdict::Refused(Refusal::TooLarge),
        // The second says that it was another record of the request; which one is only sure of a record alone.
        Code::InvalidRecord | Code::InvalidDifferentRecord => Verdict::Refused(Refusal::Invalid),
        Code::PurgeQueue | Code::PurgeInflight => Verdict::Dropped,
        Code::Fatal | Code::GaplessGuarantee => Verdict::Fatal,
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic => Verdict::Passes(Trouble::UnknownTopic),
        Code::Authentication
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Verdict::Passes(Trouble::Unauthorised),
        Code::ThrottlingQuotaExceeded => Verdict::Passes(Trouble::Quota),
        // The library's list of codes grows; what is not known is no reason to give a record up.
        _ => Verdict::Passes(Trouble::Broker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_record_itself_is_refuses_it() {
        use RDKafkaErrorCode as Code;
        for (code, verdict) in [
            (Code::MessageSizeTooLarge, Verdict::Refused(Refusal::TooLarge)),
            (Code::MessageBatchTooLarge, Verdict::Refused(Refusal::TooLarge)),
            (Code::InvalidRecord, Verdict::Refused(Refusal::Invalid)),
            (Code::InvalidDifferentRecord, Verdict::Refused(Refusal::Invalid)),
            (Code::PurgeQueue, Verdict::Dropped),
            (Code::PurgeInflight, Verdict::Dropped),
            (Code::Fatal, Verdict::Fatal),
            (Code::GaplessGuarantee, Verdict::Fatal),
            (Code::UnknownTopic, Verdict::Passes(Trouble::UnknownTopic)),
            (Code::TopicAuthorizationFailed, Verdict::Passes(Trouble::Unauthorised)),
            (Code::ThrottlingQuotaExceeded, Verdict::Passes(Trouble::Quota)),
            // Bytes that were damaged on the way are sound when they are sent again.
            (Code::InvalidMessage, Verdict::Passes(Trouble::Broker)),
            // The clocks of broker and client, not the record.
            (Code::InvalidTimestamp, Verdict::Passes(Trouble::Broker)),
            (Code::NotEnoughReplicas, Verdict::Passes(Trouble::Broker)),
            (Code::PolicyViolation, Verdict::Passes(Trouble::Broker)),
            (Code::InvalidConfig, Verdict::Passes(Trouble::Broker)),
            (Code::Unknown, Verdict::Passes(Trouble::Broker)),
        ] {
            assert_eq!(judge(Some(code)), verdict, "{code:?}");
        }
        assert_eq!(judge(None), Verdict::Passes(Trouble::Broker));
    }

    #[test]
    fn of_all_codes_few_refuse_a_record() {
        let refusing: Vec<i32> = (-200..200)
            .filter(|code| {
                let code = rdkafka::types::RDKafkaRespErr::try_from(*code);
                code.is_ok_and(|code| matches!(judge(Some(code.into())), Verdict::Refused(_)))
            })
            .collect();
        assert_eq!(refusing, [-138, 10, 18, 87]);
    }
}
