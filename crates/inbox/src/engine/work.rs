//! A batch to its end: decoded, written span by span, its failures judged.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use kafka_client::{RecordBatch, TopicPartition};

use super::board::Verdict;
use super::failure::{Disposition, Failure, chain, disposition};
use super::flood::Flood;
use super::order::BLOCKED;
use super::plan::{Fate, Plan, Rejection, UNKNOWN_EVENT_TYPE, occurred_at};
use super::session::Session;
use super::span::Span;
use super::spans::{Blame, Part, Spans};
use super::transaction::{Attempt, Ended};
use crate::age;
use crate::kill::{is_sabotaged, kill_point};
use crate::metrics;
use crate::projection::Projection;
use crate::settings::{ConsumerSettings, FloodLimits};
use crate::stop_reason::StopReason;

/// Records decoded before other tasks of the thread have their turn.
const DECODE_RECORDS: usize = 256;
/// How long a projection may take after a commit before its partition goes on.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(10);

/// What all workers of a streamer have in common.
pub(crate) struct Shared<P> {
    pub(crate) settings: ConsumerSettings,
    pub(crate) projection: Arc<P>,
}

impl<P> Shared<P> {
    /// The topic's name without the prefix of the environment.
    pub(crate) fn short_topic<'a>(&self, topic: &'a str) -> &'a str {
        topic.strip_prefix(self.settings.topic_prefix.as_str()).unwrap_or(topic)
    }
}

/// A batch and how far it is.
pub(crate) struct Job<E> {
    pub(crate) origin: TopicPartition,
    group: i16,
    plan: Plan<E>,
    is_decoded: bool,
    spans: Spans,
}

impl<E: Send + Sync + 'static> Job<E> {
    /// `expected` is the stored offset. Answers nothing for a batch without records.
    pub(crate) fn new(batch: RecordBatch, group: i16, expected: i64, flood: Flood) -> Option<Self> {
        let last = batch.get(batch.len().checked_sub(1)?)?.offset;
        let next = last + 1 + i64::from(is_sabotaged("inbox.offset_off_by_one"));
        let span = Span { records: 0..batch.len(), expected, next };
        Some(Self {
            origin: batch.origin.clone(),
            group,
            plan: Plan::new(batch),
            is_decoded: false,
            spans: Spans::new(span, flood),
        })
    }

    /// The partition's dead letters up to what is committed.
    pub(crate) fn flood(&self) -> Flood {
        self.spans.flood()
    }

    /// Works until the batch is done or something is in the way.
    pub(crate) async fn work<P: Projection<Event = E>>(
        &mut self,
        session: &mut Session,
        shared: &Shared<P>,
    ) -> Verdict {
        self.decode(shared).await;
        while let Some(part) = self.next_part(shared.settings.flood) {
            let halt = match self.commit(session, shared, &part).await {
                Ok(Ended::Committed { halt, .. } | Ended::HadCommitted { halt }) => halt,
                Ok(Ended::Fenced { stored }) => return Verdict::Fenced { stored },
                Ok(Ended::Halted(text)) => {
                    return Verdict::Halt { next: None, reason: StopReason::Halted(text) };
                }
                // The part is judged again; its new dead letters count for the flood guard.
                Ok(Ended::Rejected) => continue,
                Err(failure) => match self.failed(session, shared, &part, &failure).await {
                    Some(verdict) => return verdict,
                    None => continue,
                },
            };
            self.spans.committed(&part);
            if let Some(text) = halt {
                return Verdict::Halt { next: Some(part.span.next), reason: StopReason::Halted(text) };
            }
        }
        Verdict::Done { next: self.spans.end() }
    }

    fn next_part(&mut self, limits: FloodLimits) -> Option<Part> {
        let plan = &self.plan;
        let is_rejected = |index: usize| matches!(plan.fates[index], Fate::Reject(_));
        self.spans.next_part(limits, is_rejected, |index| plan.offset(index))
    }

    /// What follows from a failure, unless the work goes on.
    async fn failed<P: Projection<Event = E>>(
        &mut self,
        session: &mut Session,
        shared: &Shared<P>,
        part: &Part,
        failure: &SpanFailure,
    ) -> Option<Verdict> {
        let disposition = disposition(&failure.source);
        let is_rolled_back =
            matches!((&failure.source, disposition), (Failure::Apply(_), Disposition::DeadLetter(_)));
        if is_rolled_back {
            session.roll_back().await;
        } else {
            // Mid-statement, mid-transaction or dead: a new connection is cheaper than to be sure.
            session.disconnect();
        }
        match disposition {
            Disposition::Retry => Some(Verdict::Retry(chain(&failure.source))),
            Disposition::Halt => Some(Verdict::Halt { next: None, reason: StopReason::NoProgress }),
            Disposition::DeadLetter(reason) => self.isolate(part, failure, reason, shared),
        }
    }

    async fn decode<P: Projection<Event = E>>(&mut self, shared: &Shared<P>) {
        if self.is_decoded {
            return;
        }
        let topic = shared.short_topic(&self.origin.topic);
        let unknown = shared.settings.unknown_types;
        while self.plan.decode(&*shared.projection, topic, unknown, DECODE_RECORDS) {
            tokio::task::yield_now().await;
        }
        self.is_decoded = true;
    }

    /// One transaction, and what follows its commit.
    async fn commit<P: Projection<Event = E>>(
        &mut self,
        session: &mut Session,
        shared: &Shared<P>,
        part: &Part,
    ) -> Result<Ended, SpanFailure> {
        let begun = Instant::now();
        let sources = self.intern(session, shared).await.map_err(SpanFailure::before)?;
        let connection = session.batch_connection().await.map_err(SpanFailure::before)?;
        let mut attempt = Attempt {
            plan: &mut self.plan,
            part,
            sources: &sources,
            group: self.group,
            fresh: Vec::new(),
            applied: Vec::new(),
        };
        let limit = shared.settings.transaction_timeout;
        let ended = match tokio::time::timeout(limit, attempt.run(connection, shared)).await {
            Ok(ended) => ended,
            Err(_) => Err(Failure::Timeout(limit)),
        };
        match &ended {
            Ok(Ended::HadCommitted { .. }) => {
                attempt.fresh = self.spans.doubted().to_vec();
                attempt.take_events();
            }
            Ok(Ended::Committed { .. }) => {}
            Ok(Ended::Fenced { .. } | Ended::Halted(_) | Ended::Rejected) | Err(_) => attempt.restore(),
        }
        let (fresh, applied) = (attempt.fresh, attempt.applied);
        match ended {
            Ok(ended) => {
                if matches!(ended, Ended::Committed { .. } | Ended::HadCommitted { .. }) {
                    self.note(shared, &part.span, &ended, begun.elapsed());
                    self.note_visible(&shared.settings.kafka.group, &fresh);
                    committed(&*shared.projection, &applied).await;
                    kill_point("inbox.after_invalidation");
                }
                Ok(ended)
            }
            Err(source) => {
                // A transaction that fell silent may have been in its commit.
                if matches!(source, Failure::Commit(_) | Failure::Timeout(_)) {
                    self.spans.unanswered(part, &fresh);
                }
                Err(SpanFailure { source, fresh })
            }
        }
    }

    /// Numbers of the plan's sources; records of those that are one too many are rejected.
    async fn intern<P: Projection<Event = E>>(
        &mut self,
        session: &mut Session,
        shared: &Shared<P>,
    ) -> Result<Vec<i16>, Failure> {
        let sources_max = shared.settings.sources_max;
        let numbers = session.intern(&self.plan.sources, sources_max).await?;
        Ok(self.plan.number(numbers, sources_max))
    }

    /// Has the part cut, or sets its only new event aside; with nobody to blame the batch is tried again.
    fn isolate<P>(
        &mut self,
        part: &Part,
        failure: &SpanFailure,
        reason: &'static str,
        shared: &Shared<P>,
    ) -> Option<Verdict> {
        let plan = &mut self.plan;
        match self.spans.refused(part, &failure.fresh, |index| plan.offset(index)) {
            Blame::Halves => {
                metrics::bisected(&shared.settings.kafka.group);
                kill_point("inbox.in_bisection");
            }
            Blame::Culprit(index) => {
                let offset = plan.offset(index).unwrap_or(part.span.next);
                let error = chain(&failure.source);
                tracing::warn!(partition = %self.origin, offset, reason, error, "event is set aside");
                plan.reject(index, Rejection::new(reason, error));
            }
            Blame::Nobody => return Some(Verdict::Retry(chain(&failure.source))),
        }
        None
    }

    fn note<P>(&self, shared: &Shared<P>, span: &Span, ended: &Ended, time: Duration) {
        let group = &shared.settings.kafka.group;
        let (mut letters, mut unknown) = (0_usize, 0_usize);
        let none = BTreeSet::new();
        let waiting = match ended {
            Ended::Committed { advance, waiting, .. } => {
                metrics::committed(group, advance, span.records.len(), time);
                waiting
            }
            Ended::HadCommitted { .. } | Ended::Fenced { .. } | Ended::Halted(_) | Ended::Rejected => &none,
        };
        for index in span.records.clone() {
            match &self.plan.fates[index] {
                _ if waiting.contains(&index) => {
                    letters += 1;
                    metrics::dead_lettered(group, BLOCKED);
                }
                Fate::Reject(rejection) => {
                    letters += 1;
                    unknown += usize::from(rejection.reason == UNKNOWN_EVENT_TYPE);
                    metrics::dead_lettered(group, rejection.reason);
                }
                Fate::SkipUnknown => unknown += 1,
                Fate::Apply(_) | Fate::Skip => {}
            }
        }
        if unknown > 0 {
            metrics::unknown_types(group, unknown);
        }
        if letters > 0 {
            tracing::warn!(partition = %self.origin, letters, "records became dead letters");
        }
    }

    /// One sample a transaction: its oldest new event is what somebody has waited for the longest.
    fn note_visible(&self, group: &str, fresh: &[usize]) {
        let oldest = fresh.first().and_then(|index| self.plan.batch.get(*index));
        if let Some(occurred) = oldest.and_then(|record| occurred_at(&record)) {
            metrics::visible(group, age::elapsed(occurred, SystemTime::now()));
        }
    }
}

/// A failed transaction with its new records, if it came so far.
struct SpanFailure {
    source: Failure,
    fresh: Vec<usize>,
}

impl SpanFailure {
    fn before(source: Failure) -> Self {
        Self { source, fresh: Vec::new() }
    }
}

/// Nothing that goes wrong here may touch what is committed.
pub(crate) async fn committed<P: Projection>(projection: &P, events: &[P::Event]) {
    if events.is_empty() {
        return;
    }
    let telling = AssertUnwindSafe(projection.committed(events)).catch_unwind();
    match tokio::time::timeout(COMMITTED_TIMEOUT, telling).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => tracing::error!("projection panicked after a commit"),
        Err(_) => tracing::warn!("projection did not end its work after a commit in time"),
    }
}
