//! The inbox: the right consumer under kills and faults, and the wrong ones.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use torture::inbox::{CELLS, Mix, Outcome, POINTS, RunSettings, Trouble, Variant, cell, prove_one, run_once};

/// As for the outbox: a longer torture draws its own.
const SEED: u64 = 4;

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_torture").into()
}

/// Everything that was to happen has happened, and nothing is wrong.
fn holds(settings: &RunSettings, outcome: &Outcome) -> Result<()> {
    ensure!(outcome.violations.is_empty() && outcome.unreached.is_empty(), "{settings:?}: {outcome:#?}");
    ensure!(outcome.snapshots > 0 && outcome.events > 0, "{outcome:?}");
    for trouble in &settings.troubles {
        ensure!(outcome.made.contains_key(trouble.name()), "{} did not happen", trouble.name());
    }
    // What was poison has come back, every letter of it.
    let (letters, redriven) = (outcome.letters > 0, outcome.redriven > 0);
    ensure!(letters == settings.mix.has_poison() && redriven == settings.mix.has_poison(), "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_killed_at_every_point_lose_nothing_and_double_nothing() -> Result<()> {
    ensure!(POINTS.len() >= 14);
    // Members wait for their group most of the time, so the cells run beside each other.
    let runs = CELLS.map(|of| cell(program(), SEED, of));
    let outcomes = try_join_all(runs.iter().map(run_once)).await?;
    for (settings, outcome) in runs.iter().zip(&outcomes) {
        holds(settings, outcome)?;
    }
    Ok(())
}

async fn holds_under(trouble: Trouble) -> Result<()> {
    let settings = RunSettings { troubles: vec![trouble], ..cell(program(), SEED, (3, Mix::Poison)) };
    holds(&settings, &run_once(&settings).await?)
}

#[tokio::test]
async fn a_member_that_was_frozen_beyond_its_session_writes_nothing_twice() -> Result<()> {
    holds_under(Trouble::Freeze).await
}

#[tokio::test]
async fn a_member_that_was_frozen_in_a_transaction_keeps_nobody_waiting() -> Result<()> {
    holds_under(Trouble::FreezeInside).await
}

#[tokio::test]
async fn members_that_come_and_go_lose_nothing_and_double_nothing() -> Result<()> {
    holds_under(Trouble::Storm).await
}

#[tokio::test]
async fn members_whose_connections_are_ended_lose_nothing_and_double_nothing() -> Result<()> {
    holds_under(Trouble::Terminate).await
}

#[tokio::test]
async fn statements_that_time_out_are_tried_again_and_make_no_letters() -> Result<()> {
    holds_under(Trouble::StatementTimeout).await
}

#[tokio::test]
async fn a_server_without_free_connections_is_waited_for() -> Result<()> {
    holds_under(Trouble::ConnectionLimit).await
}

async fn is_caught(variant: Variant) -> Result<()> {
    let proof = prove_one(program(), SEED, variant).await?;
    ensure!(proof.holds(), "{proof:#?}");
    Ok(())
}

#[tokio::test]
async fn a_consumer_without_a_fence_is_caught() -> Result<()> {
    is_caught(Variant::NoFence).await
}

#[tokio::test]
async fn a_position_that_is_committed_before_the_effect_is_caught() -> Result<()> {
    is_caught(Variant::PositionFirst).await
}

#[tokio::test]
async fn an_invalidation_that_duplicates_skip_is_caught() -> Result<()> {
    is_caught(Variant::NoIntent).await
}

#[tokio::test]
async fn a_state_that_an_older_version_replaces_is_caught() -> Result<()> {
    is_caught(Variant::NoVersionGuard).await
}

#[tokio::test]
async fn a_letter_that_is_not_awaited_is_caught() -> Result<()> {
    is_caught(Variant::LetterNotAwaited).await
}

#[tokio::test]
async fn upserts_in_the_order_of_arrival_are_caught() -> Result<()> {
    is_caught(Variant::Unsorted).await
}

#[tokio::test]
async fn letters_that_are_remembered_as_handled_are_caught() -> Result<()> {
    is_caught(Variant::LettersHandled).await
}

#[tokio::test]
async fn an_offset_that_is_one_too_high_is_caught() -> Result<()> {
    is_caught(Variant::OffsetOffByOne).await
}

#[tokio::test]
async fn events_that_overtake_a_waiting_one_of_their_key_are_caught() -> Result<()> {
    is_caught(Variant::NothingWaits).await
}

#[tokio::test]
async fn a_release_that_goes_on_behind_what_fails_in_its_turn_is_caught() -> Result<()> {
    is_caught(Variant::ReleaseOvertakes).await
}
