//! What waited behind a dead letter has its effect in its turn, once an operator has dealt with that letter.
//!
//! Any member of the group does it, where the letters lie: the event is not sent to its topic again, where it would come
//! behind later ones of its key. A key is locked meanwhile, so what the partition's owner sets aside comes behind what is
//! released, and the key is unblocked in a transaction that sees that nothing waits any more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::failure::{Disposition, Failure, chain, disposition, engine};
use super::memory::{Marked, Memory, outside};
use super::plan::Rejection;
use super::queue::Chunk;
use super::session::Session;
use super::transaction::apply;
use super::work::{Shared, committed};
use crate::dead_letter::{Cause, LetterStatus};
use crate::kill::{answer, is_sabotaged, kill_point};
use crate::metrics;
use crate::projection::{OrderingMode, Projection};
use crate::store::blocked::{self, BlockedKey, QueuedLetter};
use crate::store::progress::find_group;

/// How often released keys are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Keys of one round.
const KEYS: i64 = 100;
/// Letters of one transaction.
const LETTERS: i64 = 500;
/// Bytes of their values; one more letter may go beyond.
const BYTES: i64 = 4 * 1024 * 1024;

/// Works for ever. Dropping the future leaves the letters of the last transaction as they were, as a crash does.
pub(crate) async fn run<P: Projection>(shared: Arc<Shared<P>>, options: PgConnectOptions) -> Infallible {
    let session = Session::new(&options, shared.settings.transaction_timeout);
    let mut releaser = Releaser { shared, session };
    let mut failures = 0_u32;
    loop {
        let pause = match releaser.round().await {
            Ok(Round::Idle) => {
                failures = 0;
                INTERVAL
            }
            Ok(Round::Over) => return std::future::pending().await,
            Err(failure) => {
                releaser.session.disconnect();
                let group = &releaser.shared.settings.kafka.group;
                tracing::warn!(
                    group,
                    error = chain(&failure),
                    "what waits behind dead letters is tried again"
                );
                failures += 1;
                INTERVAL.saturating_mul(1 << failures.min(5)).min(BACKOFF_MAX)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// What is left after a round.
enum Round {
    /// Nothing at the moment.
    Idle,
    /// Nothing for ever: the projection is not strict, and nothing waits from a time when it was.
    Over,
}

/// What became of the front of a queue.
enum Step {
    /// It had its effect, up to this turn.
    Passed(i64),
    /// So many letters together were refused.
    Refused(usize),
    /// Nothing is left to do: the queue is empty, waits for an operator, or somebody else is at it.
    Ended,
}

struct Releaser<P> {
    shared: Arc<Shared<P>>,
    session: Session,
}

impl<P: Projection> Releaser<P> {
    async fn round(&mut self) -> Result<Round, Failure> {
        let group_name = self.shared.settings.kafka.group.clone();
        let connection = self.session.connection().await?;
        let Some(group) = find_group(connection, &group_name).await.map_err(engine("find group"))? else {
            return Ok(Round::Idle);
        };
        let keys = blocked::list_released(connection, &group_name, KEYS);
        let keys = keys.await.map_err(engine("list released keys"))?;
        for key in keys {
            self.release(group, key).await?;
        }
        let is_strict = self.shared.projection.ordering() == OrderingMode::Strict;
        let connection = self.session.connection().await?;
        let waits = is_strict
            || blocked::has_keys_of_group(connection, &group_name)
                .await
                .map_err(engine("read blocked keys"))?;
        if !waits {
            self.session.disconnect();
        }
        Ok(if waits { Round::Idle } else { Round::Over })
    }

    /// Goes on with a key until its queue is empty or its first letter waits for an operator.
    async fn release(&mut self, group: i16, mut key: BlockedKey) -> Result<(), Failure> {
        let limit = self.shared.settings.transaction_timeout;
        let mut letters = LETTERS;
        loop {
            let step = tokio::time::timeout(limit, self.step(group, &key, letters)).await;
            match step.unwrap_or(Err(Failure::Timeout(limit)))? {
                Step::Passed(turn) => {
                    key.passed_turn = turn;
                    letters = LETTERS;
                }
                Step::Refused(count) => letters = i64::try_from(count / 2).unwrap_or(1).max(1),
                Step::Ended => return Ok(()),
            }
        }
    }

    async fn step(&mut self, group: i16, key: &BlockedKey, letters: i64) -> Result<Step, Failure> {
        let Self { shared, session } = self;
        let settings = &shared.settings;
        let connection = session.connection().await?;
        let queue =
            blocked::list_queue(connection, key, letters, BYTES).await.map_err(engine("read queue"))?;
        let Some(first) = queue.first() else { return unblock(connection, key).await };
        if LetterStatus::OPEN.contains(&first.status) {
            return hold(connection, key, first).await;
        }
        let short_topic = shared.short_topic(&key.topic);
        let chunk = Chunk::new(queue, &*shared.projection, short_topic, settings.unknown_types);
        let Some(mut chunk) = chunk else { return Ok(Step::Ended) };
        let numbers = session.intern(&chunk.plan.sources, settings.sources_max).await?;
        let sources = chunk.plan.number(numbers, settings.sources_max);
        let connection = session.connection().await?;
        let (count, rejection) = chunk.passable();
        if let (0, Some(rejection)) = (count, rejection) {
            return fail(connection, shared, key, &chunk.letters[0], rejection).await;
        }
        let memory = Memory { group, sources: &sources };
        match pass(connection, shared, key, memory, &mut chunk, count).await {
            Err(failure) => match disposition(&failure) {
                Disposition::DeadLetter(_) if count > 1 => Ok(Step::Refused(count)),
                Disposition::DeadLetter(reason) => {
                    let rejection = Rejection::new(reason, chain(&failure));
                    fail(connection, shared, key, &chunk.letters[0], &rejection).await
                }
                Disposition::Retry | Disposition::Halt => Err(failure),
            },
            passed => passed,
        }
    }
}

/// Lets the first `count` letters of a queue have their turn, in one transaction.
async fn pass<P: Projection>(
    connection: &mut PgConnection,
    shared: &Shared<P>,
    key: &BlockedKey,
    memory: Memory<'_>,
    chunk: &mut Chunk<P::Event>,
    count: usize,
) -> Result<Step, Failure> {
    let turn = chunk.letters[count - 1].turn;
    let mut tx = connection.begin().await.map_err(engine("begin"))?;
    if !is_unchanged(&mut tx, key, &chunk.letters[..count]).await? {
        tx.rollback().await.map_err(engine("rollback"))?;
        return Ok(Step::Ended);
    }
    kill_point("inbox.release_after_lock");
    let claims = memory.claims(chunk.identities(count));
    let locked = memory.lock(&mut tx, &claims).await?;
    let settled = match memory.settle(&mut tx, claims, locked).await? {
        Marked::Settled(settled) => settled,
        Marked::Outside(records) => {
            tx.rollback().await.map_err(engine("rollback"))?;
            return match records.iter().min() {
                Some(0) | None => fail(connection, shared, key, &chunk.letters[0], &outside()).await,
                Some(_) => Ok(Step::Refused(count)),
            };
        }
    };
    memory.remember(&mut tx, &settled.changed).await?;
    let (events, given_up) = chunk.take(&settled.fresh);
    apply(&mut tx, shared, &chunk.origin, &events).await?;
    kill_point("inbox.release_after_upsert");
    let waited: Vec<_> = chunk.letters[..count]
        .iter()
        .filter(|letter| letter.status == LetterStatus::Blocked)
        .map(|letter| letter.row.id)
        .collect();
    let marked = blocked::mark_released(&mut tx, &waited).await.map_err(engine("mark released"))?;
    if usize::try_from(marked) != Ok(waited.len()) {
        let text = format!("{marked} of {} locked letters could be released", waited.len());
        return Err(engine("mark released")(sqlx::Error::Protocol(text)));
    }
    let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    blocked::count_released(&mut tx, memory.group, signed(events.len()), signed(given_up))
        .await
        .map_err(engine("count released"))?;
    let is_over = blocked::delete_if_empty(&mut tx, key, turn).await.map_err(engine("unblock"))?;
    if !is_over {
        blocked::pass(&mut tx, key, turn).await.map_err(engine("pass"))?;
    }
    kill_point("inbox.release_before_commit");
    answer("inbox.release_answer_lost", tx.commit()).await.map_err(Failure::Commit)?;
    kill_point("inbox.release_after_commit");
    metrics::released(&shared.settings.kafka.group, waited.len());
    committed(&*shared.projection, &events).await;
    Ok(if is_over { Step::Ended } else { Step::Passed(turn) })
}

/// Whether key and letters are as they were read; they stay so to the end of the transaction.
async fn is_unchanged(
    tx: &mut PgConnection,
    key: &BlockedKey,
    letters: &[QueuedLetter],
) -> Result<bool, Failure> {
    if !blocked::try_lock_released(tx, key).await.map_err(engine("lock blocked key"))? {
        return Ok(false);
    }
    let Some(last) = letters.last() else { return Ok(true) };
    let found = blocked::lock_queue(tx, key, last.turn).await.map_err(engine("lock queue"))?;
    Ok(found.into_iter().eq(letters.iter().map(|letter| (letter.row.id, letter.status))))
}

/// The first letter fails in its turn: from now on the others wait for it.
async fn fail<P: Projection>(
    connection: &mut PgConnection,
    shared: &Shared<P>,
    key: &BlockedKey,
    letter: &QueuedLetter,
    rejection: &Rejection,
) -> Result<Step, Failure> {
    let group = &shared.settings.kafka.group;
    let mut tx = connection.begin().await.map_err(engine("begin"))?;
    if is_unchanged(&mut tx, key, std::slice::from_ref(letter)).await? {
        let cause = Cause::new(letter.row.event_type.as_deref(), rejection);
        blocked::set_aside_again(&mut tx, letter.row.id, &cause).await.map_err(engine("set aside"))?;
        if is_sabotaged("inbox.release_overtakes") {
            blocked::pass(&mut tx, key, letter.turn).await.map_err(engine("pass"))?;
        } else {
            blocked::hold(&mut tx, key).await.map_err(engine("hold"))?;
        }
        kill_point("inbox.release_before_hold");
        tx.commit().await.map_err(Failure::Commit)?;
        metrics::dead_lettered(group, rejection.reason);
        tracing::warn!(group, letter = %letter.row.id, reason = rejection.reason, "letter failed in its turn");
    }
    Ok(Step::Ended)
}

/// The first letter waits for an operator, unless he has acted since it was read.
async fn hold(
    connection: &mut PgConnection,
    key: &BlockedKey,
    first: &QueuedLetter,
) -> Result<Step, Failure> {
    let mut tx = connection.begin().await.map_err(engine("begin"))?;
    if is_unchanged(&mut tx, key, std::slice::from_ref(first)).await? {
        blocked::hold(&mut tx, key).await.map_err(engine("hold"))?;
        tx.commit().await.map_err(Failure::Commit)?;
    }
    Ok(Step::Ended)
}

/// Nothing waits.
async fn unblock(connection: &mut PgConnection, key: &BlockedKey) -> Result<Step, Failure> {
    let mut tx = connection.begin().await.map_err(engine("begin"))?;
    if is_unchanged(&mut tx, key, &[]).await? {
        blocked::delete_if_empty(&mut tx, key, key.passed_turn).await.map_err(engine("unblock"))?;
        tx.commit().await.map_err(Failure::Commit)?;
    }
    Ok(Step::Ended)
}
