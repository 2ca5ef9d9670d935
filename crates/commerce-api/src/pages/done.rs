//! What a form did, told on the page that it led to.

use serde::Deserialize;

use super::texts::Texts;

/// `?done=`.
#[derive(Deserialize)]
pub(super) struct Done {
    done: Option<String>,
}

impl Done {
    pub(super) const LIKED: &'static str = "liked";
    pub(super) const UNLIKED: &'static str = "unliked";
    pub(super) const ORDERED: &'static str = "ordered";
    pub(super) const CANCELLED: &'static str = "cancelled";

    /// What is said about it. Anything else was not said by us, and nothing is said.
    pub(super) fn text(&self, t: &'static Texts) -> Option<&'static str> {
        match self.done.as_deref()? {
            Self::LIKED => Some(t.liked_done),
            Self::UNLIKED => Some(t.unliked_done),
            Self::ORDERED => Some(t.ordered_done),
            Self::CANCELLED => Some(t.cancelled_done),
            _ => None,
        }
    }
}
