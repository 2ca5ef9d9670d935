//! The outbox: the right relay and the wrong ones.

use std::time::Duration;

use anyhow::{Result, ensure};
use torture::outbox::{ProofSettings, Variant, prove};

/// Another each time would be a finding that nobody can repeat; a longer torture draws its own.
const SEED: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_relay_passes_and_each_wrong_one_is_caught() -> Result<()> {
    let program = env!("CARGO_BIN_EXE_torture").into();
    let settings = ProofSettings {
        right: Duration::from_secs(12),
        wrong: Duration::from_secs(5),
        shows_progress: false,
        ..ProofSettings::new(program, SEED)
    };
    let proofs = prove(&settings).await?;
    ensure!(proofs.len() == 1 + Variant::WRONG.len());
    for proof in &proofs {
        ensure!(proof.holds(), "{proof:?}");
        ensure!(proof.events > 0, "{proof:?}");
    }
    Ok(())
}
