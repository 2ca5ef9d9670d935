//! Records that can never succeed: their row, and their record on the topic for dead letters.

mod fingerprint;
mod headers;
mod letter;
mod publisher;
mod record;

pub(crate) use letter::row;
pub use publisher::{DeadLetterPublisher, PublisherError, PublisherSettings};
