//! Named places at which a test may kill the process, or take a guard away.

/// Kills the process by `SIGKILL` when the failure point `name` is set to `return`; nothing without the feature
/// `failpoints`.
#[cfg(feature = "failpoints")]
pub(crate) fn kill_point(name: &'static str) {
    fail::fail_point!(name, |_| kafka_client::failpoint::kill_now());
}

/// Nothing: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn kill_point(_: &'static str) {}

/// Whether a harness has taken the guard `name` away, to see that this is noticed; never without the feature
/// `failpoints`.
#[cfg(feature = "failpoints")]
pub(crate) fn is_sabotaged(name: &'static str) -> bool {
    fail::fail_point!(name, |_| true);
    false
}

/// Never: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn is_sabotaged(_: &'static str) -> bool {
    false
}
