//! A Redis that is away, mute, restarted or flushed.

use std::time::Duration;

use product_cache::{CacheError, CacheSettings, Invalidation, ProductCache, RedisCache};
use testkit::{eventually, redis_url};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::suite::card;
use crate::{lasting, redis_cache};

fn hasty() -> CacheSettings {
    CacheSettings { timeout: Duration::from_millis(100), ..lasting() }
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_and_not_a_failed_start() -> anyhow::Result<()> {
    let unused = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let cache = RedisCache::connect(&format!("redis://{unused}"), hasty())?;
    assert!(matches!(cache.read(&[1]).await, Err(CacheError::Unavailable(_) | CacheError::TimedOut)));
    Ok(())
}

#[tokio::test]
async fn a_mute_server_is_an_error_and_not_a_hang() -> anyhow::Result<()> {
    let mute = TcpListener::bind("127.0.0.1:0").await?;
    let cache = RedisCache::connect(&format!("redis://{}", mute.local_addr()?), hasty())?;
    assert!(cache.read(&[1]).await.is_err());
    assert!(cache.fill(&[card(1, 1, false)]).await.is_err());
    let invalidation = Invalidation { product_id: 1, version: 1, sold_out: true };
    assert!(cache.invalidate(&[invalidation]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() -> anyhow::Result<()> {
    let target = redis_url()?.trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let proxy = TcpListener::bind("127.0.0.1:0").await?;
    let address = proxy.local_addr()?;
    let cache = RedisCache::connect(&format!("redis://{address}"), lasting())?;

    let forward = |proxy: TcpListener, target: String| {
        tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = proxy.accept().await {
                let target = target.clone();
                open.spawn(async move {
                    let mut far = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        })
    };
    let first = forward(proxy, target.clone());
    cache.fill(&[card(1, 1, false)]).await?;
    first.abort();
    let away = async || Ok(cache.read(&[1]).await.is_err().then_some(()));
    eventually("the server is away", away).await?;

    let _second = forward(TcpListener::bind(address).await?, target);
    let back = async || Ok(cache.read(&[1]).await.ok());
    let lookups = eventually("the server is back", back).await?;
    assert_eq!(lookups[0].card, Some(card(1, 1, false)));
    Ok(())
}

#[tokio::test]
async fn a_flushed_server_is_filled_again_scripts_included() -> anyhow::Result<()> {
    let settings = lasting();
    let prefix = settings.key_prefix.clone();
    let cache = redis_cache(settings)?;
    cache.invalidate(&[Invalidation { product_id: 1, version: 3, sold_out: true }]).await?;
    cache.fill(&[card(1, 3, true)]).await?;

    // What a flush does to this test's keys; the server is shared. Both keys of a product share their hash tag.
    let mut connection = redis::Client::open(redis_url()?)?.get_multiplexed_async_connection().await?;
    let keys = [format!("{prefix}card:{{1}}"), format!("{prefix}inv:{{1}}")];
    let removed: usize = redis::cmd("DEL").arg(&keys).query_async(&mut connection).await?;
    assert_eq!(removed, 2);
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await?;

    assert_eq!(cache.read(&[1]).await?, [product_cache::Lookup::default()]);
    cache.fill(&[card(1, 4, false)]).await?;
    assert_eq!(cache.read(&[1]).await?[0].card, Some(card(1, 4, false)));
    Ok(())
}

#[tokio::test]
async fn cards_that_are_filled_together_do_not_expire_together() -> anyhow::Result<()> {
    let settings = lasting();
    let prefix = settings.key_prefix.clone();
    let cache = redis_cache(settings)?;
    let began = std::time::Instant::now();
    cache.fill(&(1..=200).map(|id| card(id, 1, false)).collect::<Vec<_>>()).await?;
    let mut pipeline = redis::Pipeline::new();
    for id in 1..=200 {
        pipeline.cmd("PTTL").arg(format!("{prefix}card:{{{id}}}"));
    }
    let mut connection = redis::Client::open(redis_url()?)?.get_multiplexed_async_connection().await?;
    let left: Vec<u64> = pipeline.query_async(&mut connection).await?;
    let passed = u64::try_from(began.elapsed().as_millis())? + 1;
    assert!(left.iter().all(|left| (30_000..=60_000 + passed).contains(&(left + passed))), "{left:?}");
    let longer = left.iter().filter(|left| *left + passed > 45_000).count();
    assert!((40..160).contains(&longer), "{longer} of 200 live longer than three quarters");
    Ok(())
}

#[tokio::test]
async fn a_foreign_value_under_our_key_is_a_miss_and_is_replaced() -> anyhow::Result<()> {
    let settings = lasting();
    let prefix = settings.key_prefix.clone();
    let cache = redis_cache(settings)?;
    let mut connection = redis::Client::open(redis_url()?)?.get_multiplexed_async_connection().await?;
    for key in [format!("{prefix}card:{{1}}"), format!("{prefix}inv:{{1}}")] {
        let _: () = redis::cmd("SET").arg(key).arg("\u{1}nonsense").query_async(&mut connection).await?;
    }
    assert_eq!(cache.read(&[1]).await?, [product_cache::Lookup::default()]);
    cache.invalidate(&[Invalidation { product_id: 1, version: 2, sold_out: true }]).await?;
    cache.fill(&[card(1, 2, true)]).await?;
    assert_eq!(cache.read(&[1]).await?[0].card, Some(card(1, 2, true)));
    Ok(())
}
