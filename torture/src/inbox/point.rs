//! The named places at which a consumer is killed, and what brings it there.

use super::mix::Mix;
use super::operator::Act;
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
    /// An operator does this; he dies, and no member.
    Operator(Act),
}

/// A place at which a member is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The failure point.
    pub name: &'static str,
    pub(crate) cause: Cause,
    /// In which mixes it is reached: without poison there are no letters to send, and no batch to cut; nothing is released
    /// unless the projection is strict.
    pub(crate) mixes: &'static [Mix],
}

/// The points that a strict projection does not change have their kills in the other cells.
const ALWAYS: &[Mix] = &[Mix::Clean, Mix::Poison];
const POISON: &[Mix] = &[Mix::Poison];
const STRICT: &[Mix] = &[Mix::Strict];

const fn traffic(name: &'static str, mixes: &'static [Mix]) -> Point {
    Point { name, cause: Cause::Traffic, mixes }
}

const fn operator(name: &'static str, act: Act) -> Point {
    Point { name, cause: Cause::Operator(act), mixes: STRICT }
}

/// In the order in which a batch meets them; then those of what waits behind a letter.
pub const POINTS: [Point; 23] = [
    Point { name: "inbox.in_assign", cause: Cause::Start, mixes: ALWAYS },
    traffic("inbox.after_poll", ALWAYS),
    traffic("inbox.after_fence", ALWAYS),
    traffic("inbox.after_dedup", ALWAYS),
    traffic("inbox.after_upsert", ALWAYS),
    traffic("inbox.before_commit", ALWAYS),
    traffic("inbox.commit_answer_lost", ALWAYS),
    traffic("inbox.after_commit", ALWAYS),
    traffic("inbox.in_invalidation", ALWAYS),
    traffic("inbox.after_invalidation", ALWAYS),
    traffic("inbox.in_bisection", POISON),
    traffic("inbox.after_dlt_send", POISON),
    Point { name: "inbox.in_revoke", cause: Cause::Guest, mixes: ALWAYS },
    Point { name: "inbox.in_shutdown", cause: Cause::Stop, mixes: ALWAYS },
    traffic("inbox.release_after_lock", STRICT),
    traffic("inbox.release_after_upsert", STRICT),
    traffic("inbox.release_before_commit", STRICT),
    traffic("inbox.release_answer_lost", STRICT),
    traffic("inbox.release_after_commit", STRICT),
    traffic("inbox.release_before_hold", STRICT),
    operator("inbox.redrive_after_publish", Act::Redrive),
    operator("inbox.redrive_before_release", Act::Redrive),
    operator("inbox.discard_before_release", Act::Discard),
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
    /// A kill at every point that such a run is there for.
    #[must_use]
    pub fn kills(mix: Mix) -> Vec<Self> {
        POINTS.into_iter().filter(|point| point.mixes.contains(&mix)).map(Self::Kill).collect()
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
            Variant::Right => Self::kills(Mix::Poison),
            Variant::NoFence => vec![Self::Freeze],
            Variant::PositionFirst => kill("inbox.after_fence"),
            Variant::NoIntent => kill("inbox.after_commit"),
            Variant::LetterNotAwaited => kill("inbox.after_dlt_send"),
            Variant::OffsetOffByOne => kill("inbox.before_commit"),
            Variant::NoVersionGuard
            | Variant::Unsorted
            | Variant::LettersHandled
            | Variant::NothingWaits
            | Variant::ReleaseOvertakes => Vec::new(),
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
