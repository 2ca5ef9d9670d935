//! The named places at which a consumer is killed, and what brings it there.

use super::variant::Variant;

/// What brings a member to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Ordinary traffic; a member may pass the point a few times before it dies there.
    Traffic,
    /// Its start.
    Start,
    /// Another member joins, so that it must give partitions away.
    Guest,
    /// It is asked to stop.
    Stop,
}

/// A place at which a member is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The failure point.
    pub name: &'static str,
    pub(crate) cause: Cause,
    /// Only poison brings a member there: without any there are no letters to send, and no batch to cut.
    pub(crate) needs_poison: bool,
}

const fn traffic(name: &'static str) -> Point {
    Point { name, cause: Cause::Traffic, needs_poison: false }
}

/// In the order in which a batch meets them.
pub const POINTS: [Point; 14] = [
    Point { name: "inbox.in_assign", cause: Cause::Start, needs_poison: false },
    traffic("inbox.after_poll"),
    traffic("inbox.after_fence"),
    traffic("inbox.after_dedup"),
    traffic("inbox.after_upsert"),
    traffic("inbox.before_commit"),
    traffic("inbox.commit_answer_lost"),
    traffic("inbox.after_commit"),
    traffic("inbox.in_invalidation"),
    traffic("inbox.after_invalidation"),
    Point { name: "inbox.in_bisection", cause: Cause::Traffic, needs_poison: true },
    Point { name: "inbox.after_dlt_send", cause: Cause::Traffic, needs_poison: true },
    Point { name: "inbox.in_revoke", cause: Cause::Guest, needs_poison: false },
    Point { name: "inbox.in_shutdown", cause: Cause::Stop, needs_poison: false },
];

/// One trouble of a run; each is over, and the members are whole again, before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// `kill -9` at a point.
    Kill(Point),
    /// `SIGSTOP` for longer than the session timeout, then `SIGCONT`.
    Freeze,
    /// The same in the middle of a transaction that has the partition's row locked.
    FreezeInside,
    /// Members come and go.
    Storm,
    /// The server ends the members' connections, again and again.
    Terminate,
    /// Statements take longer than the server allows.
    StatementTimeout,
    /// The server has no connection left for the members.
    ConnectionLimit,
    /// Kafka is stopped and started again; the run has the commands.
    BrokerRestart,
    /// PostgreSQL likewise.
    PostgresRestart,
}

impl Trouble {
    /// A kill at every point that can be reached.
    #[must_use]
    pub fn kills(poison: bool) -> Vec<Self> {
        POINTS.into_iter().filter(|point| poison || !point.needs_poison).map(Self::Kill).collect()
    }

    /// Every trouble but the kills that needs no server of one's own.
    pub const FAULTS: [Self; 6] = [
        Self::Freeze,
        Self::FreezeInside,
        Self::Storm,
        Self::Terminate,
        Self::StatementTimeout,
        Self::ConnectionLimit,
    ];

    /// What shows the fault of a wrong consumer soonest.
    #[must_use]
    pub(crate) fn for_variant(variant: Variant) -> Vec<Self> {
        let kill = |name: &str| {
            POINTS.into_iter().filter(|point| point.name == name).map(Self::Kill).collect::<Vec<_>>()
        };
        match variant {
            Variant::Right => Self::kills(true),
            Variant::NoFence => vec![Self::Freeze],
            Variant::PositionFirst => kill("inbox.after_fence"),
            Variant::NoIntent => kill("inbox.after_commit"),
            Variant::LetterNotAwaited => kill("inbox.after_dlt_send"),
            Variant::OffsetOffByOne => kill("inbox.before_commit"),
            Variant::NoVersionGuard | Variant::Unsorted | Variant::LettersHandled => Vec::new(),
        }
    }

    /// For tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill(point) => point.name,
            Self::Freeze => "frozen beyond the session timeout",
            Self::FreezeInside => "frozen in a transaction",
            Self::Storm => "rebalance storm",
            Self::Terminate => "connections terminated",
            Self::StatementTimeout => "statement timeout",
            Self::ConnectionLimit => "connection limit",
            Self::BrokerRestart => "Kafka restarted",
            Self::PostgresRestart => "PostgreSQL restarted",
        }
    }
}
