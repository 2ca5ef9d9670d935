//! What a failed transaction means.

use std::time::Duration;

use thiserror::Error;

/// Why a transaction did not commit.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The projection's statement, or a constraint checked at the commit.
    #[error("events cannot be applied")]
    Apply(#[source] sqlx::Error),
    /// The projection panicked.
    #[error("projection panicked: {0}")]
    Panic(String),
    /// The outcome of a commit is not known.
    #[error("commit was not answered")]
    Commit(#[source] sqlx::Error),
    /// One of the engine's own statements.
    #[error("{doing} failed")]
    Engine {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// Nothing was heard for too long.
    #[error("transaction did not end within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Somebody deleted the row that the partition's offset is kept in.
    #[error("partition has no row in inbox.progress any more")]
    NoProgress,
}

/// Of one of the engine's own statements.
pub(crate) const fn engine(doing: &'static str) -> impl Fn(sqlx::Error) -> Failure {
    move |source| Failure::Engine { doing, source }
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The same batch again, in order, for as long as it takes.
    Retry,
    /// An event is to blame: find it and set it aside for this reason.
    DeadLetter(&'static str),
    /// The partition stops until somebody looks at it.
    Halt,
}

/// A class of SQLSTATE, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SqlClass {
    /// 22: a value that does not fit.
    Data,
    /// 23: a violated constraint.
    Constraint,
    /// Any other, or no answer of the server at all.
    Other,
}

pub(crate) fn disposition(failure: &Failure) -> Disposition {
    match failure {
        Failure::Apply(source) => match class(source) {
            SqlClass::Data => Disposition::DeadLetter("refused_by_database"),
            SqlClass::Constraint => Disposition::DeadLetter("constraint"),
            SqlClass::Other => Disposition::Retry,
        },
        Failure::Panic(_) => Disposition::DeadLetter("handler_panic"),
        Failure::Commit(_) | Failure::Engine { .. } | Failure::Timeout(_) => Disposition::Retry,
        Failure::NoProgress => Disposition::Halt,
    }
}

/// Whether the server said that the transaction was rolled back because of its content.
pub(crate) fn is_refused(error: &sqlx::Error) -> bool {
    class(error) != SqlClass::Other
}

fn class(error: &sqlx::Error) -> SqlClass {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref().and_then(|code| code.get(..2)) {
        Some("22") => SqlClass::Data,
        Some("23") => SqlClass::Constraint,
        Some(_) | None => SqlClass::Other,
    }
}

/// The error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_are_blamed_for_what_the_database_refuses_of_them() {
        let broken = || sqlx::Error::Protocol("broken".to_owned());
        for (failure, expected) in [
            (Failure::Apply(broken()), Disposition::Retry),
            (Failure::Apply(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())), Disposition::Retry),
            (Failure::Commit(broken()), Disposition::Retry),
            (Failure::Engine { doing: "test", source: broken() }, Disposition::Retry),
            (Failure::Timeout(Duration::from_secs(1)), Disposition::Retry),
            (Failure::Panic(String::new()), Disposition::DeadLetter("handler_panic")),
            (Failure::NoProgress, Disposition::Halt),
        ] {
            assert_eq!(disposition(&failure), expected, "{failure}");
        }
    }
}
