//! Real PostgreSQL, Kafka and Redis for tests: an own database, topics and key prefix for each test.
//!
//! The services are those of `cargo x services`, found by their variables. Deliberately absent: mocks.

mod database;
mod eventually;
mod port;
mod proxy;
mod topics;
mod watch;

pub use database::TestDatabase;
pub use eventually::{eventually, eventually_within};
pub use port::free_port;
pub use proxy::{Line, Proxy};
pub use topics::{TestTopics, redis_url, unique};
pub use watch::watched;
