//! Named places at which a test may kill the process.

/// Kills the process by `SIGKILL` when the failure point `name` is set to `return`; nothing without the feature
/// `failpoints`.
#[cfg(feature = "failpoints")]
pub(crate) fn kill_point(name: &'static str) {
    fail::fail_point!(name, |_| kafka_client::failpoint::kill_now());
}

/// Nothing: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn kill_point(_: &'static str) {}
