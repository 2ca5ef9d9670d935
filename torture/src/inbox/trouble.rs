//! What goes wrong, one trouble after the other; after each, every member is there again.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::rngs::StdRng;
use sqlx::{Connection as _, PgConnection};
use testkit::eventually_within;
use tokio::time::Instant;
use uuid::Uuid;

use super::member_process::SESSION_TIMEOUT;
use super::members::{KILLED, Members};
use super::operator::{self, Act};
use super::point::{Cause, Point, Trouble};
use super::run::Servers;
use super::stage::Stage;
use super::store;
use crate::Server;

/// Longest wait for a member that is to die at a point.
const REACH_MAX: Duration = Duration::from_secs(30);
/// Pause between two operators.
const OPERATORS_PAUSE: Duration = Duration::from_millis(50);
/// A point that was not reached is tried so often.
const REACHES_MAX: u32 = 5;
/// A frozen member is thawed after this time at the earliest.
const FREEZE: Duration = SESSION_TIMEOUT.saturating_add(Duration::from_secs(2));
/// Where a worker waits with a batch: before it asks for the stored offset, or with all its locks.
const HOLDS_BATCH: &str = "inbox.before_fence";
const HOLDS_LOCK: &str = "inbox.after_dedup";
/// After some batches it says that it waits with the next one, which comes within this time; it waits until it is thawed.
const HOLD_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for those batches.
const HOLD_MAX: Duration = Duration::from_secs(30);
/// So long the member that holds it learns nothing from its group: whoever is thawed is to be refused by the fence.
const DEAF: &str = "consumer.before_revoke=sleep(3000)";
/// What a member says when the fence has refused it.
const REFUSED: &str = "another owner moved the offset";
/// How long members come and go.
const STORM: Duration = Duration::from_secs(20);
/// A guest's stay.
const STAY_MILLIS: std::ops::RangeInclusive<u64> = 200..=1_500;
/// How long connections are ended, and how often.
const TERMINATION: Duration = Duration::from_secs(5);
const TERMINATION_INTERVAL: Duration = Duration::from_millis(100);
/// How long the database is out of order.
const OUT_OF_ORDER: Duration = Duration::from_secs(4);
/// Far above what a statement of a member takes, far below how long it has to wait.
const STATEMENT_LIMIT: &str = "500ms";

/// How long a server is away.
const OUTAGE: Duration = Duration::from_secs(4);
/// Longest wait until every partition goes on after an outage: members begin anew, and the group finds itself again.
const GO_ON_MAX: Duration = Duration::from_secs(180);

/// Makes troubles on a stage.
pub(crate) struct Troublemaker<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) members: &'a mut Members,
    pub(crate) servers: &'a Servers,
    pub(crate) connection: PgConnection,
    pub(crate) random: StdRng,
}

impl Troublemaker<'_> {
    /// Makes one trouble for the member at `slot`; answers whether it came about.
    pub(crate) async fn make(&mut self, trouble: Trouble, slot: usize) -> Result<bool> {
        match trouble {
            Trouble::Kill(point) => return self.kill_at(slot, point).await,
            Trouble::Freeze => return self.freeze(slot, HOLDS_BATCH).await,
            Trouble::FreezeInside => return self.freeze(slot, HOLDS_LOCK).await,
            Trouble::Storm => self.storm().await?,
            Trouble::Terminate => self.terminate().await?,
            Trouble::StatementTimeout => return self.time_out().await,
            Trouble::ConnectionLimit => return self.limit_connections().await,
            Trouble::BrokerRestart => self.restart(self.servers.broker.as_ref(), slot).await?,
            Trouble::PostgresRestart => self.restart(self.servers.postgres.as_ref(), slot).await?,
        }
        Ok(true)
    }

    async fn kill_at(&mut self, slot: usize, point: Point) -> Result<bool> {
        if let Cause::Operator(act) = point.cause {
            return self.kill_operator(point.name, act).await;
        }
        let mut is_reached = false;
        for _ in 0..REACHES_MAX {
            self.members.kill(slot).await?;
            let passes = if point.cause == Cause::Traffic { self.random.random_range(0..4) } else { 0 };
            let name = point.name;
            let failpoint =
                if passes == 0 { format!("{name}=return") } else { format!("{name}={passes}*off->return") };
            self.members.start(slot, Some(&failpoint))?;
            let guest = self.members.guest();
            match point.cause {
                Cause::Traffic | Cause::Start | Cause::Operator(_) => {}
                Cause::Guest => {
                    self.members.owns(slot).await?;
                    self.members.start(guest, None)?;
                }
                Cause::Stop => {
                    self.members.owns(slot).await?;
                    self.members.terminate(slot).await?;
                }
            }
            is_reached = self.members.is_killed(slot, REACH_MAX).await?;
            self.members.kill(slot).await?;
            self.members.start(slot, None)?;
            self.members.stop(guest).await?;
            if is_reached {
                break;
            }
        }
        self.members.ensure_alive()?;
        Ok(is_reached)
    }

    /// An operator dies in his work; one that finds nothing to do is followed by another.
    async fn kill_operator(&mut self, name: &str, act: Act) -> Result<bool> {
        let begun = Instant::now();
        let failpoint = format!("{name}=return");
        while begun.elapsed() < REACH_MAX {
            let ended = operator::run_process(&self.members.program, self.stage, act, &failpoint).await?;
            if ended.signal() == Some(KILLED) {
                return Ok(true);
            }
            ensure!(ended.success(), "operator ended with {ended}");
            tokio::time::sleep(OPERATORS_PAUSE).await;
        }
        Ok(false)
    }

    /// A member is frozen with a batch in its hands, and thawed when its partitions belong to others: what it writes then
    /// must be refused. Answers whether it was, or whether there are no others.
    async fn freeze(&mut self, slot: usize, hold: &str) -> Result<bool> {
        for _ in 0..REACHES_MAX {
            self.members.kill(slot).await?;
            let mark = Uuid::now_v7();
            let hold = format!("{hold}=10*off->1*print({mark})->1*sleep(8000)->off;{DEAF}");
            self.members.start(slot, Some(&hold))?;
            self.members.owns(slot).await?;
            let mark = mark.to_string();
            eventually_within(HOLD_MAX, "the member is about to hold a batch", async || {
                Ok(self.members.has_logged(&mark).then_some(()))
            })
            .await?;
            tokio::time::sleep(HOLD_WITHIN).await;
            self.members.signal(slot, "STOP").await?;
            tokio::time::sleep(FREEZE).await;
            if self.members.count > 1 {
                self.members.owns_nothing(slot).await?;
            }
            self.members.signal(slot, "CONT").await?;
            self.members.owns(slot).await?;
            if self.members.count == 1 || self.members.has_logged(REFUSED) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn storm(&mut self) -> Result<()> {
        let (begun, guest) = (Instant::now(), self.members.guest());
        while begun.elapsed() < STORM {
            self.members.start(guest, None)?;
            tokio::time::sleep(Duration::from_millis(self.random.random_range(STAY_MILLIS))).await;
            if self.random.random_bool(0.2) {
                self.members.kill(guest).await?;
            } else {
                self.members.stop(guest).await?;
            }
            if self.random.random_bool(0.3) {
                let slot = self.random.random_range(0..self.members.count);
                self.members.stop(slot).await?;
                self.members.start(slot, None)?;
            }
        }
        self.members.ensure_alive()
    }

    async fn terminate(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut ended = 0;
        while begun.elapsed() < TERMINATION {
            ended += store::terminate(&mut self.connection, &self.stage.role).await?;
            tokio::time::sleep(TERMINATION_INTERVAL).await;
        }
        ensure!(ended > 0, "no member had a connection");
        self.members.ensure_alive()
    }

    /// A server is stopped and started again. The member at `slot` is killed meanwhile, and its successor begins while the
    /// server is away; afterwards every partition must go on.
    async fn restart(&mut self, server: Option<&Server>, slot: usize) -> Result<()> {
        let server = server.context("the server is not ours to stop")?;
        server.stop().await?;
        self.members.kill(slot).await?;
        self.members.start(slot, None)?;
        tokio::time::sleep(OUTAGE).await;
        self.members.ensure_alive()?;
        server.start().await?;
        self.connection = self.stage.connect().await?;
        let topic = self.stage.topic();
        let before = store::list_offsets(&mut self.connection, &topic).await?;
        ensure!(!before.is_empty(), "no partition has an offset");
        let mut offsets = before.clone();
        let goes_on = eventually_within(GO_ON_MAX, "every partition goes on", async || {
            offsets = store::list_offsets(&mut self.connection, &topic).await?;
            Ok(before.iter().all(|(partition, offset)| offsets.get(partition) > Some(offset)).then_some(()))
        });
        if let Err(error) = goes_on.await {
            // Whether nobody produces or nobody consumes.
            let ends = self.stage.admin.end_offsets(&topic).await?;
            return Err(
                error.context(format!("from {before:?} to {offsets:?}, while the log ends at {ends:?}"))
            );
        }
        self.members.ensure_alive()
    }

    async fn time_out(&mut self) -> Result<bool> {
        let role = &self.stage.role;
        store::limit_statements(&mut self.connection, role, Some(STATEMENT_LIMIT)).await?;
        // The limit is that of new connections.
        store::terminate(&mut self.connection, role).await?;
        let mut tx = self.connection.begin().await?;
        store::hold_totals(&mut tx).await?;
        tokio::time::sleep(OUT_OF_ORDER).await;
        tx.rollback().await?;
        store::limit_statements(&mut self.connection, role, None).await?;
        store::terminate(&mut self.connection, role).await?;
        self.members.ensure_alive()?;
        Ok(self.members.has_logged("statement timeout"))
    }

    async fn limit_connections(&mut self) -> Result<bool> {
        let role = &self.stage.role;
        store::limit_connections(&mut self.connection, role, 1).await?;
        store::terminate(&mut self.connection, role).await?;
        tokio::time::sleep(OUT_OF_ORDER).await;
        store::limit_connections(&mut self.connection, role, -1).await?;
        self.members.ensure_alive()?;
        Ok(self.members.has_logged("too many connections"))
    }
}
