//! The command line without servers: settings and help.

use std::process::{Command, Output};

fn commerce(arguments: &[&str], variables: &[(&str, &str)]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_commerce")).args(arguments).envs(variables.iter().copied()).output()
}

#[test]
fn the_manual_is_a_valid_configuration() -> anyhow::Result<()> {
    let manual = commerce(&["config", "--default"], &[])?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, &manual.stdout)?;
    let path = file.path().to_str().unwrap_or_default();
    let effective = commerce(&["--config", path, "config"], &[])?;
    anyhow::ensure!(effective.status.success(), "{}", String::from_utf8_lossy(&effective.stderr));
    Ok(())
}

#[test]
fn an_unknown_setting_is_refused_by_name() -> anyhow::Result<()> {
    let refused = commerce(&["config"], &[("COMMERCE_RELAY_LEESE", "5s")])?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(!refused.status.success() && text.contains("leese"), "{text}");
    Ok(())
}

#[test]
fn a_password_is_never_printed() -> anyhow::Result<()> {
    let variables = [
        ("COMMERCE_KAFKA_BROKERS", "127.0.0.1:1"),
        ("COMMERCE_DATABASE_URL", "postgres://shop:s3cret@127.0.0.1:1/shop"),
        ("COMMERCE_REDIS_URL", "redis://:s3cret@127.0.0.1:1"),
    ];
    let printed = commerce(&["config"], &variables)?;
    anyhow::ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    anyhow::ensure!(!text.contains("s3cret") && text.contains("@127.0.0.1:1/shop"), "{text}");
    let failed = commerce(&["doctor"], &variables)?;
    let all = [failed.stdout, failed.stderr].concat();
    anyhow::ensure!(!String::from_utf8_lossy(&all).contains("s3cret"));
    Ok(())
}

#[test]
fn a_weakened_producer_is_refused_at_start() -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, "[kafka.options]\nacks = \"1\"\n")?;
    let path = file.path().to_str().unwrap_or_default();
    let refused = commerce(&["--config", path, "relay"], &[])?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(!refused.status.success() && text.contains("acks"), "{text}");
    Ok(())
}
