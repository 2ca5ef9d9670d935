//! The targets, one file for each.

mod cache;
mod config;
mod events;
mod http;
mod letters;
mod operators;
mod outbox;
mod planted;
mod records;
mod replay;

/// A function of bytes that must not panic.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and that of its folder under `corpus/`.
    pub name: &'static str,
    /// Runs one input.
    ///
    /// # Panics
    /// When the input shows a mistake.
    pub run: fn(&[u8]),
}

/// Every target. The last one has a mistake that is there on purpose.
pub const TARGETS: [Target; 13] = [
    Target { name: "events", run: events::run },
    Target { name: "records", run: records::run },
    Target { name: "letters", run: letters::run },
    Target { name: "outbox", run: outbox::run },
    Target { name: "bodies", run: http::bodies },
    Target { name: "queries", run: http::queries },
    Target { name: "forms", run: http::forms },
    Target { name: "headers", run: http::headers },
    Target { name: "replay", run: replay::run },
    Target { name: "cache", run: cache::run },
    Target { name: "config", run: config::run },
    Target { name: "operators", run: operators::run },
    Target { name: planted::NAME, run: planted::run },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The text before the first line break, and what is behind it.
fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
