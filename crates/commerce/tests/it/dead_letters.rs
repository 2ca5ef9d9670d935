//! `commerce dead-letters` as a process: killed, misused, and given hostile records.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use testkit::eventually;

use crate::harness::{KILLED, Shop};

/// What an action must be told.
const MANDATE: [&str; 4] = ["--by", "ada", "--reason", "mended"];

fn dead_letters(shop: &Shop, arguments: &[&str]) -> Result<Output> {
    Ok(shop.command("dead-letters").args(arguments).output()?)
}

/// What a successful call prints.
fn print(shop: &Shop, arguments: &[&str]) -> Result<String> {
    let output = dead_letters(shop, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn json(shop: &Shop, arguments: &[&str]) -> Result<Value> {
    let text = print(shop, &[arguments, &["--json"]].concat())?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// A letter whose texts are `text`.
async fn insert_letter(shop: &Shop, offset: i64, text: &str) -> Result<()> {
    sqlx::query(
        r#"insert into inbox.dead_letter
               (id, consumer_group, topic, partition, "offset", key, value, value_bytes, headers, event_type, reason,
                fingerprint, error)
           values (gen_random_uuid(), $1, $1, 0, $2, convert_to($1, 'utf8'), convert_to($1, 'utf8'), 1,
                   jsonb_build_array(jsonb_build_object('name', $1::text, 'utf8', $1::text),
                                     jsonb_build_object('name', 'Authorization', 'utf8', 's3cret')),
                   $1, $1, $1, $1)"#,
    )
    .bind(text)
    .bind(offset)
    .execute(&mut shop.connect().await?)
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_redrive_killed_after_publishing_is_done_again_and_counts_once() -> Result<()> {
    let shop = Shop::open().await?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let _streamer = shop.start("streamer").await?;
    let product = shop.product("redriven", 10).await?;
    let mut connection = shop.connect().await?;
    // The cause: a rule of the database that no like satisfies.
    sqlx::query("alter table metrics.product_metrics add constraint no_likes check (like_count = 0)")
        .execute(&mut connection)
        .await?;
    shop.succeed(Method::POST, &format!("/api/v1/like/products/{product}"), None).await?;
    let letters = eventually("the like is a dead letter", async || {
        let listed = json(&shop, &["list", "--rejected-for", "constraint", "--topic", "catalog-events"])?;
        Ok(listed["letters"].as_array().filter(|letters| letters.len() == 1).cloned())
    })
    .await?;
    let id = letters[0]["id"].as_str().context("no id")?;
    sqlx::query("alter table metrics.product_metrics drop constraint no_likes")
        .execute(&mut connection)
        .await?;
    let redrive = [&["redrive", id], MANDATE.as_slice()].concat();
    let killed = shop
        .command("dead-letters")
        .args(&redrive)
        .env("FAILPOINTS", "inbox.redrive_after_publish=return")
        .output()?;
    ensure!(killed.status.signal() == Some(KILLED), "ended with {}", killed.status);
    let story = json(&shop, &["show", id])?;
    ensure!(story["redriveCount"] == 0 && story["audit"] == Value::Array(Vec::new()), "{story}");
    let report = json(&shop, &redrive)?;
    ensure!(report["done"] == 1 && report["left"] == serde_json::json!({}), "{report}");
    shop.shows(product, 1, 0).await?;
    let story = eventually("the event is handled", async || {
        let story = json(&shop, &["show", id])?;
        Ok((story["eventHandled"] == true).then_some(story))
    })
    .await?;
    ensure!(story["status"] == "redriven" && story["audit"][0]["by"] == "ada", "{story}");
    let report = json(&shop, &redrive)?;
    ensure!(report["matched"] == 0 && report["done"] == 0, "{report}");
    shop.verify()
}

#[tokio::test]
async fn an_action_needs_a_scope_a_name_and_a_reason_and_a_dry_run_changes_nothing() -> Result<()> {
    let shop = Shop::open().await?;
    for offset in 0..3 {
        insert_letter(&shop, offset, "catalog-events").await?;
    }
    for (arguments, complaint) in [
        (&["redrive", "--by", "ada", "--reason", "why"][..], "--all"),
        (&["discard", "--by", "ada", "--reason", "why"], "--all"),
        (&["redrive", "--all", "--by", "ada"], "--reason"),
        (&["discard", "--all", "--by", "ada", "--reason", " "], "reason must have"),
        (&["discard", "--all", "--by", "", "--reason", "why"], "name must have"),
        (&["redrive", "--all", "--rate", "0/s", "--by", "ada", "--reason", "why"], "not a rate"),
        (&["list", "--status", "lost"], "no status"),
        (&["list", "--since", "yesterday"], "neither a time"),
        (&["show", "00000000-0000-0000-0000-000000000000"], "there is no dead letter"),
    ] {
        let refused = dead_letters(&shop, arguments)?;
        let text = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && text.contains(complaint), "{arguments:?}: {text}");
    }
    let planned = json(&shop, &["discard", "--all", "--dry-run", "--limit", "2"])?;
    ensure!(planned["done"] == 2 && planned["dryRun"] == true, "{planned}");
    let listed = json(&shop, &["list", "--since", "1h", "--limit", "2"])?;
    ensure!(listed["more"] == true && listed["letters"][0]["status"] == "new", "{listed}");
    let discarded = json(&shop, &[&["discard", "--all", "--limit", "2"], MANDATE.as_slice()].concat())?;
    ensure!(discarded["done"] == 2, "{discarded}");
    let left = json(&shop, &["list"])?;
    ensure!(left["letters"].as_array().is_some_and(|letters| letters.len() == 1), "{left}");
    let audit: i64 = sqlx::query_scalar("select count(*) from inbox.dead_letter_audit where actor = 'ada'")
        .fetch_one(&mut shop.connect().await?)
        .await?;
    ensure!(audit == 2, "{audit} rows of the audit");
    Ok(())
}

/// Ids of three letters of one key whose consumer is strict, in their order: one that waits for an operator, and two that wait
/// behind it.
async fn insert_queue(shop: &Shop) -> Result<Vec<String>> {
    for offset in 0..3 {
        insert_letter(shop, offset, "catalog-events").await?;
    }
    let mut connection = shop.connect().await?;
    let key = uuid::Uuid::nil();
    sqlx::query("insert into inbox.blocked_key (consumer_group, topic, key_digest) values ($1, $1, $2)")
        .bind("catalog-events")
        .bind(key)
        .execute(&mut connection)
        .await?;
    let queue = r#"update inbox.dead_letter
                      set key_digest = $1, turn = "offset" + 1, status = case "offset" when 0 then 'new' else 'blocked' end"#;
    sqlx::query(queue).bind(key).execute(&mut connection).await?;
    let ids = sqlx::query_scalar(r#"select id::text from inbox.dead_letter order by "offset""#);
    Ok(ids.fetch_all(&mut connection).await?)
}

#[tokio::test]
async fn a_letter_that_waits_behind_another_is_discarded_if_it_is_named_or_its_state_is() -> Result<()> {
    let shop = Shop::open().await?;
    let ids = insert_queue(&shop).await?;
    let open = json(&shop, &["discard", "--all", "--dry-run"])?;
    ensure!(open["matched"] == 1, "blocked letters are not meant by default: {open}");
    let refused = dead_letters(&shop, &[&["redrive", &ids[1]], MANDATE.as_slice()].concat())?;
    let text = String::from_utf8(refused.stdout)?;
    ensure!(!refused.status.success() && text.contains("deal with that one"), "{text}");
    let planned = json(&shop, &["discard", &ids[1], "--dry-run"])?;
    ensure!(planned["done"] == 1, "{planned}");
    let discarded = json(&shop, &[&["discard", &ids[1]], MANDATE.as_slice()].concat())?;
    ensure!(discarded["done"] == 1 && discarded["unmatched"] == serde_json::json!([]), "{discarded}");
    let story = json(&shop, &["show", &ids[1]])?;
    ensure!(story["status"] == "discarded" && story["audit"][0]["statusBefore"] == "blocked", "{story}");
    let by_state = ["discard", "--all", "--status", "blocked"];
    let discarded = json(&shop, &[&by_state, MANDATE.as_slice()].concat())?;
    ensure!(discarded["done"] == 1, "{discarded}");
    let listed = json(&shop, &["list", &ids[0], &ids[2], "--status", "all"])?;
    let statuses: Vec<&Value> = listed["letters"].as_array().context("no list")?.iter().collect();
    ensure!(statuses.len() == 2 && statuses.iter().all(|letter| letter["status"] != "blocked"), "{listed}");
    ensure!(json(&shop, &["show", &ids[0]])?["status"] == "new");
    Ok(())
}

#[tokio::test]
async fn a_named_letter_that_does_not_match_is_an_error_and_the_others_are_dealt_with() -> Result<()> {
    let shop = Shop::open().await?;
    let ids = insert_queue(&shop).await?;
    let nil = uuid::Uuid::nil().to_string();
    print(&shop, &[&["discard", &ids[2]], MANDATE.as_slice()].concat())?;
    for action in ["redrive", "discard"] {
        for (arguments, cause) in [
            (&[nil.as_str()][..], format!("{nil}: there is no such dead letter")),
            (&[ids[2].as_str()], format!("{}: it is discarded", ids[2])),
            (&[ids[1].as_str(), "--status", "open"], format!("{}: it is blocked", ids[1])),
            (&[ids[0].as_str(), "--type", "other"], format!("{}: another condition excludes it", ids[0])),
        ] {
            for more in [&["--dry-run"][..], &MANDATE] {
                let arguments = [&[action], arguments, more].concat();
                let missed = dead_letters(&shop, &arguments)?;
                if action == "discard" && cause.ends_with("it is discarded") {
                    ensure!(missed.status.success(), "what is done already is no error: {missed:?}");
                    continue;
                }
                let error = String::from_utf8(missed.stderr)?;
                ensure!(!missed.status.success() && error.contains(&cause), "{arguments:?}: {error}");
            }
        }
    }
    let both = [&["discard", &ids[0], &nil, "--json"], MANDATE.as_slice()].concat();
    let missed = dead_letters(&shop, &both)?;
    let report: Value = serde_json::from_slice(&missed.stdout)?;
    ensure!(!missed.status.success() && report["done"] == 1, "{report}");
    ensure!(report["unmatched"][0]["id"] == nil.as_str(), "{report}");
    ensure!(json(&shop, &["show", &ids[0]])?["status"] == "discarded");
    Ok(())
}

#[tokio::test]
async fn nothing_of_a_record_reaches_the_terminal_as_a_command() -> Result<()> {
    let shop = Shop::open().await?;
    let hostile = "\u{1b}[2J\r\u{9b}31m\u{202e}';--<b>%s\u{7}";
    insert_letter(&shop, 0, hostile).await?;
    let listed = json(&shop, &["list"])?;
    let letter = &listed["letters"][0];
    ensure!(letter["error"] == hostile, "{letter}");
    let id = letter["id"].as_str().context("no id")?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("path")?;
    print(&shop, &["export", "--output", path])?;
    let exported = std::fs::read_to_string(path)?;
    ensure!(serde_json::from_str::<Value>(&exported)?["value"]["utf8"] == hostile, "{exported}");
    let printed = [
        print(&shop, &["list"])?,
        print(&shop, &["list", "--json"])?,
        print(&shop, &["show", id])?,
        print(&shop, &["show", id, "--json"])?,
        print(&shop, &["group"])?,
        print(&shop, &["group", "--json"])?,
        print(&shop, &["discard", id, "--dry-run"])?,
        exported,
    ];
    for text in printed {
        let is_safe =
            |character: char| character == '\n' || !(character.is_control() || character == '\u{202e}');
        ensure!(text.chars().all(is_safe), "{text:?}");
        ensure!(!text.contains("s3cret"), "{text}");
    }
    Ok(())
}
