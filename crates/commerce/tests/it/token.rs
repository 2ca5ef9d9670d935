//! `commerce token`, as an operator uses it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::TestDatabase;

async fn database() -> Result<TestDatabase> {
    TestDatabase::create(&[commerce_api::migrations()]).await
}

fn commerce(database: &TestDatabase, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commerce"));
    command.arg("token").args(arguments).env("COMMERCE_DATABASE_URL", database.url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Fails when it ended without reading, which is its right.
    let _ = child.stdin.take().context("no input")?.write_all(input.as_bytes());
    Ok(child.wait_with_output()?)
}

/// Standard output of a call that succeeds.
fn answer(database: &TestDatabase, arguments: &[&str]) -> Result<String> {
    let output = commerce(database, arguments, "")?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn states(database: &TestDatabase) -> Result<Vec<Value>> {
    let listed: Vec<Value> = serde_json::from_str(&answer(database, &["list", "--json", "-"])?)?;
    Ok(listed.into_iter().map(|token| json!([token["id"], token["userId"], token["state"]])).collect())
}

#[tokio::test]
async fn a_token_is_printed_once_and_listed_without_its_text() -> Result<()> {
    let database = database().await?;
    let label = "till \u{202e}[2J";
    let issue =
        ["issue", "--user", "7", "--scope", "admin", "--scope", "buyer", "--expires", "1h", "--label", label];
    let issued = commerce(&database, &issue, "")?;
    ensure!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
    let (token, said) = (String::from_utf8(issued.stdout)?, String::from_utf8(issued.stderr)?);
    assert!(token.starts_with("ct_") && token.len() == 47 && token.ends_with('\n'), "one line, nothing else");
    assert!(said.starts_with("token 1 of user 7 lives until 2") && !said.contains("ct_"), "{said}");
    let other = answer(&database, &["issue", "--user", "8", "--scope", "buyer"])?;
    assert_ne!(token, other);

    let listed = answer(&database, &["list"])?;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("buyer,admin   living") && listed.contains("till \\u{202e}[2J"), "{listed}");
    assert!(!listed.contains(token.trim()) && !listed.contains('\u{202e}'), "{listed}");
    let listed = answer(&database, &["list", "--user", "8", "--json", "-"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    assert_eq!(
        (&listed[0]["userId"], &listed[0]["scopes"], listed.as_array().map(Vec::len)),
        (&8.into(), &json!(["buyer"]), Some(1))
    );
    assert_eq!(answer(&database, &["list", "--limit", "1"])?.lines().count(), 2);
    database.drop_database().await
}

#[tokio::test]
async fn what_is_revoked_is_said_and_harmless_twice() -> Result<()> {
    let database = database().await?;
    let mut tokens = Vec::new();
    for user in ["7", "7", "8", "9"] {
        tokens.push(answer(&database, &["issue", "--user", user, "--scope", "buyer"])?);
    }
    assert_eq!(answer(&database, &["revoke", "1"])?, "1 tokens match, 1 revoked now: 1\n");
    assert_eq!(answer(&database, &["revoke", "1"])?, "1 tokens match, 0 revoked now\n");
    assert_eq!(answer(&database, &["revoke", "--user", "7"])?, "2 tokens match, 1 revoked now: 2\n");
    assert_eq!(answer(&database, &["revoke", "--user", "77"])?, "0 tokens match, 0 revoked now\n");
    let found = commerce(&database, &["revoke", "--stdin", "--json", "-"], &tokens[2])?;
    assert_eq!(serde_json::from_slice::<Value>(&found.stdout)?, json!({"matched": 1, "revoked": [3]}));
    assert_eq!(
        states(&database)?,
        [
            json!([4, 9, "living"]),
            json!([3, 8, "revoked"]),
            json!([2, 7, "revoked"]),
            json!([1, 7, "revoked"]),
        ]
    );
    for (arguments, input) in [
        (&["revoke", "5"][..], ""),
        (&["revoke", "--stdin"], "ct_unknown"),
        (&["revoke"], ""),
        (&["revoke", "4", "--user", "9"], ""),
    ] {
        let refused = commerce(&database, arguments, input)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && !said.contains("ct_unknown"), "{arguments:?}: {said}");
    }
    assert_eq!(states(&database)?[0], json!([4, 9, "living"]));
    database.drop_database().await
}

#[tokio::test]
async fn a_token_that_breaks_a_rule_is_not_issued() -> Result<()> {
    let database = database().await?;
    for wrong in [
        &["--user", "0", "--scope", "buyer"][..],
        &["--user", "7"],
        &["--user", "7", "--scope", "root"],
        &["--user", "7", "--scope", "buyer", "--expires", "401d"],
        &["--user", "7", "--scope", "buyer", "--expires", "0s"],
        &["--user", "7", "--scope", "buyer", "--label", "a\nb"],
    ] {
        let refused = commerce(&database, &[&["issue"], wrong].concat(), "")?;
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{wrong:?}");
    }
    assert!(states(&database)?.is_empty());
    database.drop_database().await
}
