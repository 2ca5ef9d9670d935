//! Metrics of the api; labels are bounded.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::domain::ranking::Period;
use crate::views::Recorded;

/// Answered requests by `method`, `route` (a pattern, never a path) and `status`.
const REQUESTS: &str = "http_requests_total";
/// Requests refused because their address or caller asks too often, `by`: `address`, `caller`.
const RATE_LIMITED: &str = "http_rate_limited_total";
/// How long they took, by `route`.
const REQUEST_SECONDS: &str = "http_request_duration_seconds";
/// Requests being worked on.
const IN_FLIGHT: &str = "http_requests_in_flight";
/// Views of product pages by what the page said (`recorded`: `true`, `false`, `unknown`).
const VIEWS: &str = "http_views_total";
/// How long rankings took to be read, by `period`.
const RANKING_SECONDS: &str = "ranking_read_seconds";
/// The breaker between pages and the cache: 0 closed, 1 half open, 2 open.
const CACHE_BREAKER: &str = "http_cache_breaker_state";
/// Open streams of watched products.
const LIVE_WATCHERS: &str = "live_watchers";
/// Reads of what is watched: one of the cache and one of the counts each.
const LIVE_READS: &str = "live_reads_total";
/// Watchers who were sent away because they did not take what they were told.
const LIVE_DROPPED: &str = "live_dropped_total";
/// Commands in one transaction, by `kind`: `view`, `order`, `like`.
const GROUP: &str = "http_group_commands";

/// By what a request was refused as one too many.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LimitedBy {
    Address,
    Caller,
}

pub(crate) fn rate_limited(by: LimitedBy) {
    let by = match by {
        LimitedBy::Address => "address",
        LimitedBy::Caller => "caller",
    };
    counter!(RATE_LIMITED, "by" => by).increment(1);
}

/// Of requests. A metric is found by its labels once for each route, method and status: that costs more than to count.
pub(crate) struct RequestMetrics {
    in_flight: Gauge,
    routes: RwLock<HashMap<String, RouteMetrics>>,
}

struct RouteMetrics {
    took: Histogram,
    answers: Vec<((&'static str, u16), Counter)>,
}

impl RequestMetrics {
    pub(crate) fn new() -> Self {
        Self { in_flight: gauge!(IN_FLIGHT), routes: RwLock::default() }
    }

    /// A request is being worked on for as long as the answer lives.
    pub(crate) fn begun(&self) -> InFlight {
        self.in_flight.increment(1.0);
        InFlight(self.in_flight.clone())
    }

    pub(crate) fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let answer = (method, status);
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.get(route)
            && let Some((_, answers)) = known.answers.iter().find(|(known, _)| *known == answer)
        {
            answers.increment(1);
            known.took.record(seconds);
            return;
        }
        drop(routes);
        let name = route.to_owned();
        let answers =
            counter!(REQUESTS, "method" => method, "route" => name.clone(), "status" => status.to_string());
        let took = histogram!(REQUEST_SECONDS, "route" => name.clone());
        answers.increment(1);
        took.record(seconds);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let known = routes.entry(name).or_insert_with(|| RouteMetrics { took, answers: Vec::new() });
        if known.answers.iter().all(|(known, _)| *known != answer) {
            known.answers.push((answer, answers));
        }
    }
}

/// A request that is being worked on.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Of views, found once as those of requests.
pub(crate) struct ViewMetrics {
    yes: Counter,
    no: Counter,
    unknown: Counter,
}

impl ViewMetrics {
    pub(crate) fn new() -> Self {
        let of = |recorded: Recorded| counter!(VIEWS, "recorded" => recorded.as_str());
        Self { yes: of(Recorded::Yes), no: of(Recorded::No), unknown: of(Recorded::Unknown) }
    }

    pub(crate) fn told(&self, recorded: Recorded) {
        let counter = match recorded {
            Recorded::Yes => &self.yes,
            Recorded::No => &self.no,
            Recorded::Unknown => &self.unknown,
        };
        counter.increment(1);
    }
}

pub(crate) fn ranking_read(period: Period, took: Duration) {
    histogram!(RANKING_SECONDS, "period" => period.as_str()).record(took.as_secs_f64());
}

pub(crate) fn cache_breaker() -> Gauge {
    gauge!(CACHE_BREAKER)
}

/// So many watchers have come, or gone.
pub(crate) fn live_watchers(come: f64) {
    gauge!(LIVE_WATCHERS).increment(come);
}

pub(crate) fn live_read() {
    counter!(LIVE_READS).increment(1);
}

pub(crate) fn live_dropped() {
    counter!(LIVE_DROPPED).increment(1);
}

pub(crate) fn group(kind: &'static str, commands: usize) {
    histogram!(GROUP, "kind" => kind).record(f64::from(u32::try_from(commands).unwrap_or(u32::MAX)));
}
