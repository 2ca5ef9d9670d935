//! `commerce outbox parked`, as an operator uses it.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use serde_json::Value;
use testkit::TestDatabase;

/// A key that would clear the screen of whoever lists it.
const KEY: &str = "\u{1b}[2J7";

/// A key with a refused record and one behind it.
async fn parked() -> Result<TestDatabase> {
    let database = TestDatabase::create(&[outbox::migrations()]).await?;
    let mut connection = database.connect().await?;
    sqlx::query(
        "insert into outbox.parked
                (shard, id, event_id, system_identifier, timeline, event_type, aggregate_type, aggregate_id, topic,
                 partition_key, payload, occurred_at, state, reason, error, attempts)
         select 3, id, gen_random_uuid(), 5, 1, 'Happened', 'thing', '7', 'things', $1, $2, 'epoch',
                case id when 41 then 'refused' else 'waiting' end, case id when 41 then 'too_large' end,
                case id when 41 then 'message too large' end, 1
           from generate_series(41, 42) id",
    )
    .bind(KEY)
    .bind(b"\x00\xff".as_slice())
    .execute(&mut connection)
    .await?;
    Ok(database)
}

fn commerce(database: &TestDatabase, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commerce"));
    command.args(["outbox", "parked"]).args(arguments);
    command.env("COMMERCE_DATABASE_URL", database.url()).env("USER", "tester");
    Ok(command.output()?)
}

/// Standard output of a call that succeeds.
fn answer(database: &TestDatabase, arguments: &[&str]) -> Result<String> {
    let output = commerce(database, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn records_are_listed_and_shown_without_steering_the_terminal() -> Result<()> {
    let database = parked().await?;
    let listed = answer(&database, &["list"])?;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("too_large") && listed.contains("things / \\u{1b}[2J7 / Happened"), "{listed}");
    let shown = answer(&database, &["show", "41"])?;
    for part in ["message too large", "urn:outbox:5:1", "0x00ff"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!listed.contains('\u{1b}') && !shown.contains('\u{1b}'));
    let json: Value = serde_json::from_str(&answer(&database, &["list", "--json", "-"])?)?;
    assert_eq!(
        (&json[0]["id"], &json[0]["key"], &json[1]["state"]),
        (&41.into(), &KEY.into(), &"waiting".into())
    );
    let json: Value = serde_json::from_str(&answer(&database, &["show", "42", "--json", "-"])?)?;
    assert_eq!(json["payload"]["hex"], "00ff");
    let missing = commerce(&database, &["show", "43"])?;
    assert!(!missing.status.success());
    database.drop_database().await
}

#[tokio::test]
async fn actions_say_what_they_change_and_are_harmless_twice() -> Result<()> {
    let database = parked().await?;
    let unpark = ["unpark", "--key", KEY, "--reason", "limit raised"];
    let dry = answer(&database, &[&unpark[..], &["--dry-run"]].concat())?;
    assert_eq!(dry, "1 records of 1 keys would be unparked, nothing was changed\n");
    assert_eq!(answer(&database, &unpark)?, "1 records of 1 keys unparked\n");
    assert_eq!(answer(&database, &unpark)?, "0 records of 0 keys unparked\n");
    let discarded =
        answer(&database, &["discard", "--id", "42", "--reason", "void", "--by", "ann", "--json", "-"])?;
    let discarded: Value = serde_json::from_str(&discarded)?;
    assert_eq!((&discarded["records"], &discarded["dryRun"]), (&1.into(), &false.into()));
    let mut connection = database.connect().await?;
    let audit: Vec<(String, String, String)> =
        sqlx::query_as("select done_by, action, why from outbox.parked_audit order by id")
            .fetch_all(&mut connection)
            .await?;
    let line = |by: &str, action: &str, why: &str| (by.to_owned(), action.to_owned(), why.to_owned());
    assert_eq!(audit, [line("tester", "unpark", "limit raised"), line("ann", "discard", "void")]);
    database.drop_database().await
}

#[tokio::test]
async fn an_action_needs_a_reason_and_says_which_records() -> Result<()> {
    let database = parked().await?;
    for refused in [
        &["discard", "--all"][..],
        &["discard", "--reason", "void"],
        &["discard", "--all", "--key", KEY, "--reason", "void"],
        &["discard", "--all", "--reason", " "],
    ] {
        let output = commerce(&database, refused)?;
        assert!(!output.status.success(), "{refused:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(answer(&database, &["list"])?.lines().count(), 3, "nothing is gone");
    database.drop_database().await
}
