//! Named places at which a test may kill the process, or take a guard away. Projections have places of their own.

pub use kafka_client::failpoint::kill_point;

pub(crate) use kafka_client::failpoint::is_sabotaged;

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
