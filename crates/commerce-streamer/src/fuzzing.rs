//! The projections, for the fuzzer: it asks them what they make of a record.

use std::sync::Arc;
use std::time::Duration;

use inbox::Projection;
use product_cache::{BreakerSettings, ProductCache};
use runtime::database::Pool;

use crate::projections::metrics::MetricsProjection;
use crate::projections::stock::StockProjection;

/// The projection of counts.
#[must_use]
pub fn metrics() -> impl Projection {
    MetricsProjection
}

/// The projection of what is sold out.
#[must_use]
pub fn stock(cache: Arc<dyn ProductCache>, pool: Pool) -> impl Projection {
    StockProjection::new(cache, BreakerSettings { failures_max: 0, pause: Duration::ZERO }, pool)
}
