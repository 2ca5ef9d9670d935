//! Metrics of the api; labels are bounded.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::domain::ranking::Period;
use crate::views::Recorded;

/// Answered requests by `method`, `route` (a pattern, never a path) and `status`.
const REQUESTS: &str = "commerce_http_requests_total";
/// Requests refused because their address or caller asks too often, `by`: `address`, `caller`.
const RATE_LIMITED: &str = "commerce_http_rate_limited_total";
/// How long they took, by `route`.
const REQUEST_SECONDS: &str = "commerce_http_request_duration_seconds";
/// Requests being worked on.
const IN_FLIGHT: &str = "commerce_http_requests_in_flight";
/// Views of product pages by what the page said (`recorded`: `true`, `false`, `unknown`).
const VIEWS: &str = "commerce_http_views_total";
/// How long rankings took to be read, by `period`.
const RANKING_SECONDS: &str = "commerce_ranking_read_seconds";
/// Open streams of watched products.
const LIVE_WATCHERS: &str = "commerce_live_watchers";
/// Reads of what is watched: one of the cache and one of the counts each.
const LIVE_READS: &str = "commerce_live_reads_total";
/// Watchers who were sent away because they did not take what they were told.
const LIVE_DROPPED: &str = "commerce_live_dropped_total";
/// Commands in one transaction, by `kind`: `view`, `order`, `like`.
const GROUP: &str = "commerce_http_group_commands";

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

pub(crate) fn request(method: &'static str, route: &str, status: u16, took: Duration) {
    let route = route.to_owned();
    counter!(REQUESTS, "method" => method, "route" => route.clone(), "status" => status.to_string())
        .increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(took.as_secs_f64());
}

/// Counts a request as being worked on for as long as it lives.
pub(crate) struct InFlight;

impl InFlight {
    pub(crate) fn new() -> Self {
        gauge!(IN_FLIGHT).increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT).decrement(1.0);
    }
}

pub(crate) fn ranking_read(period: Period, took: Duration) {
    histogram!(RANKING_SECONDS, "period" => period.as_str()).record(took.as_secs_f64());
}

pub(crate) fn view(recorded: Recorded) {
    counter!(VIEWS, "recorded" => recorded.as_str()).increment(1);
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
