//! Facts that hold for every implementation.

use product_cache::{Card, Invalidation, Lookup, ProductCache, Tombstone};
use testkit::eventually;

pub(crate) fn card(product_id: i64, stock_version: i64, sold_out: bool) -> Card {
    Card {
        product_id,
        code: format!("code-{product_id}"),
        // Quotes and the scripts' own words: neither may confuse the version.
        name: format!("{{\"stockVersion\":1}} 컵 {product_id}"),
        brand: (product_id % 2 == 0).then(|| "브랜드".to_owned()),
        price: 1_250,
        sold_out,
        stock_version,
    }
}

fn invalidation(product_id: i64, version: i64, sold_out: bool) -> Invalidation {
    Invalidation { product_id, version, sold_out }
}

fn tombstone(version: i64, sold_out: bool) -> Option<Tombstone> {
    Some(Tombstone { version, sold_out })
}

async fn read_one(cache: &impl ProductCache, product_id: i64) -> anyhow::Result<Lookup> {
    let mut lookups = cache.read(&[product_id]).await?;
    assert_eq!(lookups.len(), 1);
    Ok(lookups.remove(0))
}

pub(crate) async fn what_is_filled_is_read_in_the_order_asked(
    cache: &impl ProductCache,
) -> anyhow::Result<()> {
    cache.fill(&[card(1, 3, false), card(2, 1, true)]).await?;
    let lookups = cache.read(&[2, 9, 1, 2]).await?;
    let cards: Vec<_> = lookups.into_iter().map(|lookup| lookup.card).collect();
    assert_eq!(cards, [Some(card(2, 1, true)), None, Some(card(1, 3, false)), Some(card(2, 1, true))]);
    Ok(())
}

pub(crate) async fn a_slow_fill_against_an_invalidation_is_refused(
    cache: &impl ProductCache,
) -> anyhow::Result<()> {
    let read_before_the_change = card(1, 6, false);
    cache.invalidate(&[invalidation(1, 7, true)]).await?;
    cache.fill(&[read_before_the_change]).await?;
    let lookup = read_one(cache, 1).await?;
    assert_eq!(lookup, Lookup { card: None, tombstone: tombstone(7, true) });
    assert!(lookup.sold_out(&card(1, 6, false)), "the tombstone wins over what the slow reader still holds");
    Ok(())
}

pub(crate) async fn a_card_of_the_tombstones_own_version_is_kept(
    cache: &impl ProductCache,
) -> anyhow::Result<()> {
    cache.fill(&[card(1, 7, true)]).await?;
    cache.invalidate(&[invalidation(1, 7, true)]).await?;
    assert_eq!(read_one(cache, 1).await?.card, Some(card(1, 7, true)));
    cache.invalidate(&[invalidation(1, 8, false)]).await?;
    assert_eq!(read_one(cache, 1).await?.card, None, "an older card is dropped");
    cache.fill(&[card(1, 8, false)]).await?;
    assert_eq!(read_one(cache, 1).await?.card, Some(card(1, 8, false)));
    Ok(())
}

pub(crate) async fn an_older_card_does_not_replace_a_newer_one(
    cache: &impl ProductCache,
) -> anyhow::Result<()> {
    cache.fill(&[card(1, 10, true)]).await?;
    cache.fill(&[card(1, 9, false)]).await?;
    assert_eq!(read_one(cache, 1).await?.card, Some(card(1, 10, true)));
    Ok(())
}

pub(crate) async fn reordered_and_repeated_invalidations_end_in_the_newest(
    cache: &impl ProductCache,
) -> anyhow::Result<()> {
    let orders = [[5, 9, 7], [9, 7, 5], [7, 5, 9], [9, 9, 5]];
    for (id, versions) in (1..).zip(orders) {
        for version in versions {
            cache.invalidate(&[invalidation(id, version, version == 9)]).await?;
            cache.invalidate(&[invalidation(id, version, version == 9)]).await?;
        }
        assert_eq!(read_one(cache, id).await?.tombstone, tombstone(9, true), "{versions:?}");
        cache.fill(&[card(id, 8, false)]).await?;
        assert_eq!(read_one(cache, id).await?.card, None, "{versions:?}");
    }
    Ok(())
}

pub(crate) async fn the_first_state_of_a_version_stays(cache: &impl ProductCache) -> anyhow::Result<()> {
    cache.invalidate(&[invalidation(1, 4, true), invalidation(1, 4, false)]).await?;
    assert_eq!(read_one(cache, 1).await?.tombstone, tombstone(4, true));
    Ok(())
}

pub(crate) async fn versions_beyond_a_double_are_told_apart(cache: &impl ProductCache) -> anyhow::Result<()> {
    cache.invalidate(&[invalidation(1, i64::MAX, true), invalidation(2, 10, true)]).await?;
    cache.fill(&[card(1, i64::MAX - 1, false), card(2, 9, false)]).await?;
    assert_eq!(read_one(cache, 1).await?, Lookup { card: None, tombstone: tombstone(i64::MAX, true) });
    assert_eq!(read_one(cache, 2).await?.card, None, "9 is below 10 although its text is above");
    Ok(())
}

pub(crate) async fn a_batch_decides_product_by_product(cache: &impl ProductCache) -> anyhow::Result<()> {
    let odd: Vec<_> = (1..=999).step_by(2).map(|id| invalidation(id, 2, true)).collect();
    cache.invalidate(&odd).await?;
    cache.fill(&(1..=999).map(|id| card(id, 1, false)).collect::<Vec<_>>()).await?;
    for (id, lookup) in (1..=999).zip(cache.read(&(1..=999).collect::<Vec<_>>()).await?) {
        assert_eq!(lookup.card.is_some(), id % 2 == 0, "product {id}");
    }
    Ok(())
}

pub(crate) async fn concurrent_fills_and_invalidations_never_leave_an_old_card(
    cache: &impl ProductCache,
) -> anyhow::Result<()> {
    for id in 1..=20 {
        let fills = async {
            for version in 1..=10 {
                cache.fill(&[card(id, version, false)]).await?;
            }
            anyhow::Ok(())
        };
        let invalidations = async {
            for version in [4, 8, 2, 12, 6] {
                cache.invalidate(&[invalidation(id, version, true)]).await?;
                if let Lookup { card: Some(card), tombstone: Some(tombstone) } = read_one(cache, id).await? {
                    assert!(card.stock_version >= tombstone.version);
                }
            }
            anyhow::Ok(())
        };
        tokio::try_join!(fills, invalidations)?;
        assert_eq!(read_one(cache, id).await?, Lookup { card: None, tombstone: tombstone(12, true) });
    }
    Ok(())
}

pub(crate) async fn a_card_expires_before_its_tombstone(cache: &impl ProductCache) -> anyhow::Result<()> {
    cache.invalidate(&[invalidation(1, 1, false)]).await?;
    cache.fill(&[card(1, 1, false)]).await?;
    eventually("the card expires", async || Ok(read_one(cache, 1).await?.card.is_none().then_some(())))
        .await?;
    assert_eq!(read_one(cache, 1).await?.tombstone, tombstone(1, false));
    Ok(())
}

pub(crate) async fn a_tombstone_expires(cache: &impl ProductCache) -> anyhow::Result<()> {
    cache.invalidate(&[invalidation(1, 5, true)]).await?;
    let expired = async || Ok(read_one(cache, 1).await?.tombstone.is_none().then_some(()));
    eventually("the tombstone expires", expired).await?;
    cache.fill(&[card(1, 1, false)]).await?;
    Ok(())
}

pub(crate) async fn nothing_asked_is_nothing_done(cache: &impl ProductCache) -> anyhow::Result<()> {
    assert!(cache.read(&[]).await?.is_empty());
    cache.fill(&[]).await?;
    cache.invalidate(&[]).await?;
    Ok(())
}
