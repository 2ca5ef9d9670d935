//! Waiting until everything that was committed has had its effect, as the verifier defines it.

use std::time::Duration;

use anyhow::bail;

use super::screen::Screen;
use crate::verify::{Ends, Pipeline, Settling, wait_settled};

/// A pipeline that is not settled after this long is stuck.
const DEADLINE: Duration = Duration::from_secs(90);

/// Answers the ends of the logs, or fails and names what is not settled.
pub(super) async fn settle(pipeline: &Pipeline, screen: &Screen) -> anyhow::Result<Ends> {
    let bar = screen.spinner("settling");
    match wait_settled(pipeline, DEADLINE, |what| bar.note(what)).await? {
        Settling::Settled(ends) => Ok(ends),
        Settling::Unsettled(what) => bail!("not settled after {} s: {}", DEADLINE.as_secs(), what.join("; ")),
    }
}
