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
use super::span::{Isolation, Span};
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
    /// What is left to do; the next one last.
    spans: Vec<Span>,
    /// The span whose commit was not answered, and its new records.
    in_doubt: Option<(Span, Vec<usize>)>,
    /// The partition's dead letters up to what is committed.
    pub(crate) flood: Flood,
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
            spans: vec![span],
            in_doubt: None,
            flood,
        })
    }

    /// Works until the batch is done or something is in the way.
    pub(crate) async fn work<P: Projection<Event = E>>(
        &mut self,
        session: &mut Session,
        shared: &Shared<P>,
    ) -> Verdict {
        self.decode(shared).await;
        let mut next = None;
        loop {
            let Some(span) = self.spans.pop() else {
                return next.map_or_else(no_progress, |next| Verdict::Done { next });
            };
            let (span, flood, halt) = self.up_to_flood(span, shared.settings.flood);
            match self.commit(session, shared, &span, halt.as_deref()).await {
                Ok(ended @ (Ended::Committed { .. } | Ended::HadCommitted)) => {
                    next = Some(span.next);
                    self.spans.pop();
                    self.in_doubt = None;
                    self.flood = flood;
                    let halt = if let Ended::Committed { halt, .. } = ended { halt } else { halt };
                    if let Some(text) = halt {
                        return Verdict::Halt { next, reason: StopReason::Halted(text) };
                    }
                }
                Ok(Ended::Fenced { stored }) => return Verdict::Fenced { stored },
                // The span lies on the stack still; its new dead letters count for the flood guard.
                Ok(Ended::Rejected) => {}
                Err(failure) => {
                    let disposition = disposition(&failure.source);
                    let is_rolled_back = matches!(
                        (&failure.source, disposition),
                        (Failure::Apply(_), Disposition::DeadLetter(_))
                    );
                    if is_rolled_back {
                        session.roll_back().await;
                    } else {
                        // Mid-statement, mid-transaction or dead: a new connection is cheaper than to be sure.
                        session.disconnect();
                    }
                    match disposition {
                        Disposition::Retry => return Verdict::Retry(chain(&failure.source)),
                        Disposition::Halt => return no_progress(),
                        Disposition::DeadLetter(reason) => {
                            if let Err(text) = self.isolate(&span, &failure, reason, shared) {
                                return Verdict::Retry(text);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The part of the span that ends with one dead letter too many, if there is one; it lies on the stack of spans, and
    /// the rest below it.
    fn up_to_flood(&mut self, mut span: Span, limits: FloodLimits) -> (Span, Flood, Option<String>) {
        let mut flood = self.flood;
        let mut halt = None;
        for index in span.records.clone() {
            halt = flood.note(matches!(self.plan.fates[index], Fate::Reject(_)), limits);
            if halt.is_none() {
                continue;
            }
            if let Some(record) = self.plan.batch.get(index + 1).filter(|_| index + 1 < span.records.end) {
                let (head, rest) = span.cut(index + 1, record.offset);
                self.spans.push(rest);
                span = head;
            }
            break;
        }
        self.spans.push(span.clone());
        (span, flood, halt)
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
        span: &Span,
        halt: Option<&str>,
    ) -> Result<Ended, SpanFailure> {
        let begun = Instant::now();
        let sources = self.intern(session, shared).await.map_err(SpanFailure::before)?;
        let connection = session.batch_connection().await.map_err(SpanFailure::before)?;
        let doubt = self.in_doubt.as_ref().filter(|(doubted, _)| doubted == span);
        let mut attempt = Attempt {
            plan: &mut self.plan,
            span,
            sources: &sources,
            group: self.group,
            halt,
            is_in_doubt: doubt.is_some(),
            fresh: Vec::new(),
            applied: Vec::new(),
        };
        let limit = shared.settings.transaction_timeout;
        let ended = match tokio::time::timeout(limit, attempt.run(connection, shared)).await {
            Ok(ended) => ended,
            Err(_) => Err(Failure::Timeout(limit)),
        };
        match &ended {
            Ok(Ended::HadCommitted) => {
                attempt.fresh = doubt.map(|(_, fresh)| fresh.clone()).unwrap_or_default();
                attempt.take_events();
            }
            Ok(Ended::Committed { .. }) => {}
            Ok(Ended::Fenced { .. } | Ended::Rejected) | Err(_) => attempt.restore(),
        }
        let (fresh, applied) = (attempt.fresh, attempt.applied);
        match ended {
            Ok(ended) => {
                if !matches!(ended, Ended::Fenced { .. } | Ended::Rejected) {
                    self.note(shared, span, &ended, begun.elapsed());
                    self.note_visible(&shared.settings.kafka.group, &fresh);
                    committed(&*shared.projection, &applied).await;
                    kill_point("inbox.after_invalidation");
                }
                Ok(ended)
            }
            Err(source) => {
                // A transaction that fell silent may have been in its commit.
                if matches!(source, Failure::Commit(_) | Failure::Timeout(_)) && !fresh.is_empty() {
                    self.in_doubt = Some((span.clone(), fresh.clone()));
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

    /// Cuts the span, or sets its only new event aside.
    fn isolate<P>(
        &mut self,
        span: &Span,
        failure: &SpanFailure,
        reason: &'static str,
        shared: &Shared<P>,
    ) -> Result<(), String> {
        let batch = &self.plan.batch;
        let offset_of = |index: usize| batch.get(index).map_or(span.next, |record| record.offset);
        match span.isolate(&failure.fresh, offset_of) {
            Isolation::Halves(first, second) => {
                metrics::bisected(&shared.settings.kafka.group);
                self.spans.pop();
                self.spans.extend([second, first]);
                kill_point("inbox.in_bisection");
            }
            Isolation::Culprit(index) => {
                let offset = offset_of(index);
                let error = chain(&failure.source);
                tracing::warn!(partition = %self.origin, offset, reason, error, "event is set aside");
                self.plan.reject(index, Rejection::new(reason, error));
            }
            Isolation::Nobody => return Err(chain(&failure.source)),
        }
        Ok(())
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
            Ended::HadCommitted | Ended::Fenced { .. } | Ended::Rejected => &none,
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

fn no_progress() -> Verdict {
    Verdict::Halt { next: None, reason: StopReason::NoProgress }
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
