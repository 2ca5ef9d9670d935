//! Which events must be sent with caution, after a failure. Pure.
//!
//! When a producer reports that a record was refused, it is only sure that the *request* was: a request of a thousand
//! sound records can be too large as a whole. So nothing is parked on that report. The records become suspects, and the
//! next session sends pages that hold one of them record by record ([`super::careful`]): what is refused alone is
//! refused.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// A request is kept this many times smaller when all its records were fine one by one.
const SHRINK: usize = 4;
/// Requests are not kept smaller than this: a single record is always sent.
const REQUEST_BYTES_MIN: usize = 256;
/// What the client library puts into one request by default.
const REQUEST_BYTES_FIRST: usize = 1_000_000;

/// What a relay remembers from session to session.
#[derive(Debug, Default)]
pub(crate) struct Caution {
    suspects: HashSet<Uuid>,
    /// Whether a request with a suspect was too large.
    was_too_large: bool,
    /// Whether a suspect was refused alone.
    found_culprit: bool,
    request_bytes_max: Option<usize>,
}

impl Caution {
    /// The request of this event was not stored.
    pub(crate) fn suspect(&mut self, event_id: Uuid, was_too_large: bool) {
        self.suspects.insert(event_id);
        self.was_too_large |= was_too_large;
    }

    /// Whether there are suspects that were not sent since.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    pub(crate) fn is_suspect(&self, event_id: Uuid) -> bool {
        self.suspects.contains(&event_id)
    }

    /// What became of an event: stored, or refused for good. Answers the new limit of a request when it turns out that
    /// requests are too large as a whole.
    pub(crate) fn resolve(&mut self, event_id: Uuid, is_refused: bool) -> Option<usize> {
        if !self.suspects.remove(&event_id) {
            return None;
        }
        self.found_culprit |= is_refused;
        if self.has_suspects() { None } else { self.conclude() }
    }

    /// Everything that was committed is sent: whatever is left is another relay's.
    pub(crate) fn forget(&mut self) {
        self.suspects.clear();
        self.was_too_large = false;
        self.found_culprit = false;
    }

    /// Most bytes of a request, when the library's own limit has proved too large.
    pub(crate) fn request_bytes_max(&self) -> Option<usize> {
        self.request_bytes_max
    }

    fn conclude(&mut self) -> Option<usize> {
        let too_large_together = self.was_too_large && !self.found_culprit;
        self.forget();
        let limit = self.request_bytes_max.unwrap_or(REQUEST_BYTES_FIRST);
        if too_large_together && limit > REQUEST_BYTES_MIN {
            self.request_bytes_max = Some((limit / SHRINK).max(REQUEST_BYTES_MIN));
            self.request_bytes_max
        } else {
            None
        }
    }
}

/// A relay's caution, shared by its sessions and the thread of its producer.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedCaution(Arc<Mutex<Caution>>);

impl SharedCaution {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Caution> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn suspects_are_resolved_one_by_one() {
        let mut caution = Caution::default();
        caution.suspect(id(1), true);
        caution.suspect(id(2), true);
        assert_eq!(caution.resolve(id(3), false), None);
        assert_eq!(caution.resolve(id(1), true), None);
        assert!(caution.has_suspects() && !caution.is_suspect(id(1)) && caution.is_suspect(id(2)));
        assert_eq!(caution.resolve(id(2), false), None, "there was a culprit: requests are not too large");
        assert!(!caution.has_suspects());
    }

    #[test]
    fn requests_shrink_when_every_record_is_fine_alone_and_not_below_a_limit() {
        let mut caution = Caution::default();
        let mut limits = Vec::new();
        for round in 0..8 {
            caution.suspect(id(round), true);
            limits.extend(caution.resolve(id(round), false));
        }
        assert_eq!(limits, [250_000, 62_500, 15_625, 3_906, 976, 256]);
        assert_eq!(caution.request_bytes_max(), Some(256));
    }

    #[test]
    fn other_trouble_shrinks_nothing() {
        let mut caution = Caution::default();
        caution.suspect(id(1), false);
        assert_eq!(caution.resolve(id(1), false), None);
        caution.suspect(id(2), true);
        caution.forget();
        caution.suspect(id(3), false);
        assert_eq!(caution.resolve(id(3), false), None, "what was forgotten has no say");
        assert_eq!(caution.request_bytes_max(), None);
    }

    proptest! {
        #[test]
        fn caution_ends_when_every_suspect_is_resolved_and_not_before(
            suspects in prop::collection::btree_set(0_u128..50, 1..30),
            order in prop::collection::vec(0_u128..50, 0..200),
        ) {
            let mut caution = Caution::default();
            for suspect in &suspects {
                caution.suspect(id(*suspect), false);
            }
            let mut left = suspects;
            for event in order {
                prop_assert_eq!(caution.is_suspect(id(event)), left.contains(&event));
                caution.resolve(id(event), false);
                left.remove(&event);
                prop_assert_eq!(caution.has_suspects(), !left.is_empty());
            }
        }
    }
}
