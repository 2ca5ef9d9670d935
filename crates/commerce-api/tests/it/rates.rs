//! Who asks too often waits; nobody waits for him.

use commerce_api::{ApiSettings, AuthMode};
use reqwest::Method;

use crate::harness::{Answer, Choices, TestShop, api_settings, auth_settings, send};

const LIKES: &str = "/api/v1/like/products";
const PRODUCTS: &str = "/api/v1/products";

/// One more than three is refused, and in ten seconds there is room for the next one.
fn is_one_too_many(answer: &Answer) -> bool {
    let wait: Option<u64> = answer.retry_after.as_deref().and_then(|wait| wait.parse().ok());
    (answer.status.as_u16(), answer.code()) == (429, "TOO_MANY_REQUESTS")
        && wait.is_some_and(|wait| (1..=10).contains(&wait))
}

#[tokio::test]
async fn a_caller_who_asks_too_often_is_refused_and_no_other() -> anyhow::Result<()> {
    let mut choices = Choices::ordinary()?;
    (choices.api.rate_caller_per_minute, choices.api.rate_caller_burst) = (6, 3);
    let shop = TestShop::start_with(choices).await?;
    for _ in 0..3 {
        assert_eq!(send(shop.as_user(Method::GET, LIKES, 7)).await?.status.as_u16(), 200);
    }
    for request in [
        shop.as_user(Method::GET, LIKES, 7),
        shop.as_user(Method::GET, "/api/v1/products/1", 7),
        shop.as_user(Method::POST, "/api-admin/v1/products", 7).header("x-user-role", "admin"),
    ] {
        let refused = send(request).await?;
        assert!(is_one_too_many(&refused), "{refused:?}");
    }
    assert_eq!(send(shop.as_user(Method::GET, LIKES, 8)).await?.status.as_u16(), 200);
    for _ in 0..10 {
        assert_eq!(
            send(shop.request(Method::GET, PRODUCTS)).await?.status.as_u16(),
            200,
            "nobody in particular"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_refused_before_anything_is_done_for_it() -> anyhow::Result<()> {
    let mut choices = Choices { auth: auth_settings(AuthMode::Token)?, ..Choices::ordinary()? };
    (choices.api.rate_address_per_minute, choices.api.rate_address_burst) = (6, 3);
    choices.auth.gateway_networks = vec!["10.0.0.0/8".parse()?];
    let shop = TestShop::start_with(choices).await?;
    for status in [200, 401, 404] {
        let path = match status {
            200 => PRODUCTS,
            401 => LIKES,
            _ => "/nowhere",
        };
        assert_eq!(send(shop.request(Method::GET, path)).await?.status.as_u16(), status);
    }
    // Not even a token is looked at.
    shop.pool.close();
    let token = format!("ct_{}", "a".repeat(43));
    for request in [
        shop.with_token(Method::GET, LIKES, &token),
        shop.request(Method::GET, "/nowhere").header("x-forwarded-for", "192.0.2.1"),
    ] {
        let refused = send(request).await?;
        assert!(is_one_too_many(&refused), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_may_ask_for_as_many_as_there_are() -> anyhow::Result<()> {
    let mut choices = Choices::ordinary()?;
    (choices.api.rate_address_per_minute, choices.api.rate_address_burst) = (6, 3);
    let shop = TestShop::start_with(choices).await?;
    for _ in 0..10 {
        assert_eq!(send(shop.request(Method::GET, PRODUCTS)).await?.status.as_u16(), 200);
    }
    Ok(())
}

#[tokio::test]
async fn so_many_callers_are_remembered_and_who_is_forgotten_begins_anew() -> anyhow::Result<()> {
    const CALLERS: i64 = 500;
    let mut choices = Choices::ordinary()?;
    (choices.api.rate_caller_per_minute, choices.api.rate_caller_burst) = (1, 1);
    choices.api.rate_keys_max = 10;
    let shop = TestShop::start_with(choices).await?;
    let mut admitted = [0, 0];
    for admitted in &mut admitted {
        for caller in 1..=CALLERS {
            let status = send(shop.as_user(Method::GET, LIKES, caller)).await?.status.as_u16();
            assert!(matches!(status, 200 | 429), "{status}");
            *admitted += i64::from(status == 200);
        }
    }
    assert_eq!(admitted[0], CALLERS, "a new caller is let in, however many there are");
    // The memory is cut now and then, so that a few more than ten are known for a while.
    assert!(admitted[1] > CALLERS / 2, "{admitted:?}");
    Ok(())
}

#[test]
fn a_rate_that_cannot_be_counted_with_is_refused_at_start() {
    let set = |choose: fn(&mut ApiSettings)| {
        let mut api = api_settings();
        (api.rate_address_per_minute, api.rate_address_burst) = (1_000_000, 1);
        (api.rate_caller_per_minute, api.rate_caller_burst) = (1, 1_000_000);
        choose(&mut api);
        api.validate().err().map(|error| error.key)
    };
    assert_eq!(set(|_| ()), None);
    assert_eq!(set(|api| api.rate_address_burst = 0), Some("api.rate_address_burst"));
    assert_eq!(set(|api| api.rate_address_per_minute = 1_000_001), Some("api.rate_address_per_minute"));
    assert_eq!(set(|api| api.rate_caller_burst = 1_000_001), Some("api.rate_caller_burst"));
    assert_eq!(set(|api| api.rate_keys_max = 0), Some("api.rate_keys_max"));
    assert_eq!(set(|api| (api.rate_caller_per_minute, api.rate_caller_burst) = (0, 0)), None);
}
