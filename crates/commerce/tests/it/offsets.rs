//! `commerce streamer offsets`, as an operator uses it.

use std::process::Output;

use anyhow::{Result, ensure};

use crate::harness::Shop;

/// A partition that is halted at offset 7.
const HALTED: &str = "
    with consumers as (insert into inbox.consumer_group (name) values ($1) returning id)
    insert into inbox.progress (consumer_group, topic, partition, next_offset, first_offset, handled, halted)
    select id, $2, 3, 7, 0, 7, '5 dead letters in a row' from consumers";

/// What names the partition.
const TARGET: [&str; 6] = ["--group", "counts", "--topic", "catalog-events", "--partition", "3"];

async fn halted() -> Result<Shop> {
    let shop = Shop::open().await?;
    sqlx::query(HALTED)
        .bind(shop.topics.name("counts"))
        .bind(shop.topics.name("catalog-events"))
        .execute(&mut shop.connect().await?)
        .await?;
    Ok(shop)
}

/// Calls it as `user`, or as nobody.
fn offsets(shop: &Shop, user: Option<&str>, arguments: &[&str]) -> Result<Output> {
    let mut command = shop.command("streamer");
    command.arg("offsets").args(arguments).env_remove("USER");
    if let Some(user) = user {
        command.env("USER", user);
    }
    Ok(command.output()?)
}

/// What a successful call prints.
fn print(shop: &Shop, user: Option<&str>, arguments: &[&str]) -> Result<String> {
    let output = offsets(shop, user, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Action, old and new offset, who and why of each change.
async fn audit(shop: &Shop) -> Result<Vec<(String, i64, i64, String, String)>> {
    let rows = "select action, old_offset, new_offset, done_by, reason from inbox.offset_audit order by id";
    Ok(sqlx::query_as(rows).fetch_all(&mut shop.connect().await?).await?)
}

#[tokio::test]
async fn an_offset_is_shown_and_moved_after_a_dry_run_that_changes_nothing() -> Result<()> {
    let shop = halted().await?;
    let shown = print(&shop, None, &["show", "--group", "counts"])?;
    ensure!(shown.starts_with("from table inbox.progress, 1 partitions\n"), "{shown}");
    let (group, topic) = (shop.topics.name("counts"), shop.topics.name("catalog-events"));
    let line = format!("{group}  {topic}[3]  next offset 7 ");
    ensure!(shown.contains(&line) && shown.contains("HALTED: 5 dead letters in a row"), "{shown}");
    ensure!(print(&shop, None, &["show", "--group", "others"])?.contains(" 0 partitions"));

    let set = [&["set", "--offset", "9"], TARGET.as_slice()].concat();
    let planned = print(&shop, None, &[&set[..], &["--dry-run"]].concat())?;
    let (before, after) = planned.split_once("\nafter ").unwrap_or_default();
    ensure!(before.contains("next offset 7 ") && before.contains("HALTED"), "{planned}");
    ensure!(after.contains("next offset 9 ") && !after.contains("HALTED"), "{planned}");
    ensure!(planned.ends_with("dry run: nothing was changed\n"), "{planned}");
    ensure!(print(&shop, None, &["show"])? == shown && audit(&shop).await?.is_empty());

    let done = print(&shop, Some("ada"), &[&set[..], &["--reason", "lost by retention"]].concat())?;
    ensure!(done.ends_with("a streamer that runs notices by itself\n"), "{done}");
    let shown = print(&shop, None, &["show"])?;
    ensure!(shown.contains("next offset 9 ") && !shown.contains("HALTED"), "{shown}");
    let expected = ("set".to_owned(), 7, 9, "ada".to_owned(), "lost by retention".to_owned());
    assert_eq!(audit(&shop).await?, [expected]);
    Ok(())
}

#[tokio::test]
async fn a_halted_partition_is_resumed_where_it_was_by_whom_the_command_line_names() -> Result<()> {
    let shop = halted().await?;
    let resume = [&["resume", "--by", "grace", "--reason", "mended"], TARGET.as_slice()].concat();
    print(&shop, Some("ada"), &resume)?;
    let shown = print(&shop, None, &["show"])?;
    ensure!(shown.contains("next offset 7 ") && !shown.contains("HALTED"), "{shown}");
    let expected = ("resume".to_owned(), 7, 7, "grace".to_owned(), "mended".to_owned());
    assert_eq!(audit(&shop).await?, [expected]);
    Ok(())
}

#[tokio::test]
async fn a_change_by_nobody_or_without_a_reason_or_of_an_unknown_partition_is_refused() -> Result<()> {
    let shop = halted().await?;
    let shown = print(&shop, None, &["show"])?;
    let elsewhere = ["--group", "counts", "--topic", "order-events", "--partition", "3"];
    for task in [&["resume"][..], &["set", "--offset", "0"]] {
        for (user, target, more, complaint) in [
            (None, TARGET, &["--reason", "mended"][..], "nobody is named: --by NAME"),
            (Some(" "), TARGET, &["--reason", "mended"], "needs the name"),
            (Some("ada"), TARGET, &["--reason", " "], "and a reason"),
            (Some("ada"), TARGET, &[], "--reason"),
            (Some("ada"), elsewhere, &["--reason", "mended"], "has no stored offset"),
            (None, elsewhere, &["--dry-run"], "has no stored offset"),
        ] {
            let arguments = [task, &target, more].concat();
            let refused = offsets(&shop, user, &arguments)?;
            let text = String::from_utf8_lossy(&refused.stderr);
            ensure!(!refused.status.success() && text.contains(complaint), "{arguments:?}: {text}");
        }
    }
    ensure!(print(&shop, None, &["show"])? == shown && audit(&shop).await?.is_empty());
    Ok(())
}
