//! `commerce doctor --rebase-outbox`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::Shop;

/// Runs the doctor; answers its exit code, what it says, and its report.
fn doctor(shop: &Shop, arguments: &[&str]) -> Result<(i32, String, Value)> {
    let output = shop.command("doctor").args(arguments).args(["--json", "-"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    Ok((output.status.code().context("killed")?, text, report))
}

#[tokio::test]
async fn a_restored_outbox_is_rebased_by_the_doctor_after_a_dry_run() -> Result<()> {
    let shop = Shop::open().await?;
    let rebase = ["--rebase-outbox"];
    let (code, text, _) = doctor(&shop, &rebase)?;
    ensure!(code == 3 && text.contains("nothing to rebase"), "{code}: {text}");
    let restore = "update outbox.shard set system_identifier = 77";
    sqlx::query(restore).execute(&mut shop.connect().await?).await?;
    let (code, text, _) = doctor(&shop, &[])?;
    ensure!(code == 1 && text.contains("server 77"), "{code}: {text}");

    let (code, text, report) = doctor(&shop, &["--rebase-outbox", "--dry-run"])?;
    ensure!(code == 0 && text.contains("would rebase 16 shards"), "{code}: {text}");
    ensure!(report["dry_run"] == true && report["from_server"] == "77", "{report}");
    let (code, text, report) = doctor(&shop, &rebase)?;
    ensure!(code == 0 && text.contains("rebased 16 shards"), "{code}: {text}");
    ensure!(report["shards"] == 16 && report["dry_run"] == false, "{report}");
    let mut relay = shop.start("relay").await?;
    relay.terminate()?;
    ensure!(relay.ended().await?.success());
    let (code, text, _) = doctor(&shop, &["--dry-run"])?;
    ensure!(code == 2, "{code}: {text}");
    Ok(())
}
