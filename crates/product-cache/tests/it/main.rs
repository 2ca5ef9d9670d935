//! One suite over both implementations, and what only a server can do: be away, be slow, lose its memory.

#![cfg(test)]

mod interleavings;
mod server;
mod suite;

use std::time::Duration;

use product_cache::{CacheSettings, LocalCache, ProductCache, RedisCache};
use testkit::{redis_url, unique};

fn settings(card_ttl: Duration, tombstone_ttl: Duration) -> CacheSettings {
    CacheSettings {
        key_prefix: format!("{}:", unique("cache")),
        card_ttl,
        tombstone_ttl,
        // Wide: a noisy machine must not fail a test of the protocol.
        timeout: Duration::from_secs(10),
        local_cards_max: 10_000,
    }
}

fn lasting() -> CacheSettings {
    settings(Duration::from_secs(60), Duration::from_secs(600))
}

fn redis_cache(settings: CacheSettings) -> anyhow::Result<RedisCache> {
    Ok(RedisCache::connect(&redis_url()?, settings)?)
}

macro_rules! over_both {
    ($($fact:ident: $settings:expr;)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $fact() -> anyhow::Result<()> {
                super::suite::$fact(&super::LocalCache::new($settings)?).await
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $fact() -> anyhow::Result<()> {
                super::suite::$fact(&super::redis_cache($settings)?).await
            })*
        }
    };
}

over_both! {
    what_is_filled_is_read_in_the_order_asked: super::lasting();
    a_slow_fill_against_an_invalidation_is_refused: super::lasting();
    a_card_of_the_tombstones_own_version_is_kept: super::lasting();
    an_older_card_does_not_replace_a_newer_one: super::lasting();
    reordered_and_repeated_invalidations_end_in_the_newest: super::lasting();
    the_first_state_of_a_version_stays: super::lasting();
    versions_beyond_a_double_are_told_apart: super::lasting();
    a_batch_decides_product_by_product: super::lasting();
    concurrent_fills_and_invalidations_never_leave_an_old_card: super::lasting();
    a_card_expires_before_its_tombstone:
        super::settings(std::time::Duration::from_millis(40), std::time::Duration::from_secs(600));
    a_tombstone_expires:
        super::settings(std::time::Duration::from_millis(20), std::time::Duration::from_millis(40));
    nothing_asked_is_nothing_done: super::lasting();
}

#[tokio::test]
async fn a_full_process_drops_fills_but_no_invalidation() -> anyhow::Result<()> {
    use product_cache::Invalidation;
    let cache = LocalCache::new(CacheSettings { local_cards_max: 16, ..lasting() })?;
    cache.fill(&(1..=100).map(|id| suite::card(id, 1, false)).collect::<Vec<_>>()).await?;
    let lookups = cache.read(&(1..=100).collect::<Vec<_>>()).await?;
    assert_eq!(lookups.iter().filter(|lookup| lookup.card.is_some()).count(), 16);
    cache.invalidate(&[Invalidation { product_id: 99, version: 2, sold_out: true }]).await?;
    assert_eq!(cache.read(&[99]).await?[0].tombstone.map(|tombstone| tombstone.version), Some(2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn cards_that_are_filled_together_do_not_expire_together() -> anyhow::Result<()> {
    let cache = LocalCache::new(lasting())?;
    let ids: Vec<i64> = (1..=200).collect();
    cache.fill(&ids.iter().map(|id| suite::card(*id, 1, false)).collect::<Vec<_>>()).await?;
    let live =
        async || anyhow::Ok(cache.read(&ids).await?.iter().filter(|found| found.card.is_some()).count());
    let (before_half, quarter) = (Duration::from_millis(29_999), Duration::from_secs(15));
    tokio::time::advance(before_half).await;
    assert_eq!(live().await?, 200, "each lives half of it");
    tokio::time::advance(quarter).await;
    assert!((40..160).contains(&live().await?), "about half of them live three quarters of it");
    tokio::time::advance(quarter + Duration::from_millis(1)).await;
    assert_eq!(live().await?, 0, "and none lives longer");
    Ok(())
}

#[test]
fn unusable_settings_are_refused_by_name() {
    let refused = |settings: CacheSettings| LocalCache::new(settings).unwrap_err().to_string();
    assert!(refused(CacheSettings { key_prefix: "a{b".to_owned(), ..lasting() }).contains("key_prefix"));
    assert!(refused(CacheSettings { card_ttl: Duration::ZERO, ..lasting() }).contains("card_ttl"));
    assert!(
        refused(CacheSettings { tombstone_ttl: Duration::from_secs(61), ..lasting() })
            .contains("tombstone_ttl")
    );
    assert!(refused(CacheSettings { timeout: Duration::ZERO, ..lasting() }).contains("timeout"));
}
