//! The SQL of this crate.

use sqlx::migrate::Migrator;

pub(crate) mod metrics;
pub(crate) mod stock;

pub use stock::owed_intents;

/// The tables of schema `metrics`, with their own record of what has been applied.
#[must_use]
pub fn migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("metrics");
    migrator.dangerous_set_table_name("metrics._migrations");
    migrator
}
