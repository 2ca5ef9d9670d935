//! Named places at which a test may kill the process, or take a guard away.

/// Kills the process by `SIGKILL` when the failure point `name` is set to `return`; nothing without the feature
/// `failpoints`. Projections have places of their own.
#[cfg(feature = "failpoints")]
pub fn kill_point(name: &'static str) {
    fail::fail_point!(name, |_| kafka_client::failpoint::kill_now());
}

/// Nothing: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
pub fn kill_point(_: &'static str) {}

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

/// Waits for an answer; when the failure point `name` is set to `return`, the process is killed as soon as the question is
/// on its way, so that nobody learns the answer.
#[cfg(feature = "failpoints")]
pub(crate) async fn answer<F: Future>(name: &'static str, question: F) -> F::Output {
    let mut question = std::pin::pin!(question);
    if is_sabotaged(name) {
        // The first poll writes the question to the socket.
        let _ = futures_util::poll!(question.as_mut());
        kafka_client::failpoint::kill_now();
    }
    question.await
}

/// Waits for an answer: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
pub(crate) async fn answer<F: Future>(_: &'static str, question: F) -> F::Output {
    question.await
}
