//! Forms work from end to end without a script: sent, redirected, shown.

use std::sync::Arc;

use product_cache::ProductCache;
use reqwest::{Method, StatusCode};
use testkit::eventually;

use super::{form, open, product, show};
use crate::harness::{Choices, TestShop, local_cache};
use crate::outages;

/// What a page's order form sends.
async fn order_fields(shop: &TestShop, product: i64) -> anyhow::Result<[(String, String); 3]> {
    let page = show(shop, &format!("/products/{product}")).await?;
    let field = |name: &str| (name.to_owned(), page.field(name).unwrap_or_default().to_owned());
    Ok([field("product_id"), field("quantity"), field("key")])
}

fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test]
async fn a_like_is_given_and_taken_back() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    for (liked, done, said, pressed) in [
        ("true", "liked", "You like this product now.", "true"),
        ("true", "liked", "You like this product now.", "true"),
        ("false", "unliked", "You do not like this product any more.", "false"),
    ] {
        let sent = open(form(&shop, &format!("/products/{cup}/like"), &[("liked", liked)])).await?;
        assert_eq!(sent.location(), format!("/products/{cup}?done={done}"));
        let page = show(&shop, sent.location()).await?;
        assert!(page.has(said) && page.has(&format!("aria-pressed=\"{pressed}\"")), "{}", page.html);
        assert_eq!(show(&shop, "/likes").await?.has("컵"), liked == "true");
    }
    assert_eq!(shop.event_types().await?, ["ProductLiked", "ProductUnliked"]);
    Ok(())
}

#[tokio::test]
async fn an_order_form_orders_once_however_often_it_is_sent() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let mut fields = order_fields(&shop, cup).await?;
    fields[1].1 = "2".to_owned();
    let first = open(form(&shop, "/orders", &pairs(&fields))).await?;
    let again = open(form(&shop, "/orders", &pairs(&fields))).await?;
    assert_eq!(first.location(), again.location());
    assert_eq!(shop.stock(cup).await?.0, 3);
    let page = show(&shop, first.location()).await?;
    assert!(
        page.has("Thank you.") && page.has("컵") && page.has("₩24,000") && page.has("KST"),
        "{}",
        page.html
    );
    assert!(show(&shop, "/orders").await?.has("₩24,000"));
    assert_ne!(order_fields(&shop, cup).await?[2], fields[2], "the next form is another order");
    Ok(())
}

#[tokio::test]
async fn an_order_is_cancelled_from_its_page() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let placed = open(form(&shop, "/orders", &pairs(&order_fields(&shop, cup).await?))).await?;
    let path = placed.location().split('?').next().unwrap_or_default().to_owned();
    assert!(show(&shop, &path).await?.has(&format!("action=\"{path}/cancel\"")));
    for _ in 0..2 {
        let cancelled = open(form(&shop, &format!("{path}/cancel"), &[])).await?;
        assert_eq!(cancelled.location(), format!("{path}?done=cancelled"));
        let page = show(&shop, cancelled.location()).await?;
        assert!(page.has("Your order is cancelled.") && !page.has("/cancel\""), "{}", page.html);
    }
    assert_eq!(shop.stock(cup).await?.0, 5, "given back once");
    Ok(())
}

#[tokio::test]
async fn a_refused_order_comes_back_as_its_form_with_the_reason() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 3).await?;
    let id = cup.to_string();
    for (quantity, status, said) in [
        ("4", StatusCode::CONFLICT, "There is not enough left"),
        ("0", StatusCode::UNPROCESSABLE_ENTITY, "from 1 to 1,000,000"),
        ("-1", StatusCode::UNPROCESSABLE_ENTITY, "from 1 to 1,000,000"),
        ("", StatusCode::UNPROCESSABLE_ENTITY, "from 1 to 1,000,000"),
        ("two", StatusCode::UNPROCESSABLE_ENTITY, "from 1 to 1,000,000"),
        ("99999999999999999999", StatusCode::UNPROCESSABLE_ENTITY, "from 1 to 1,000,000"),
    ] {
        let fields = [("product_id", id.as_str()), ("quantity", quantity), ("key", "k")];
        let page = open(form(&shop, "/orders", &fields)).await?;
        assert_eq!(page.status, status, "{quantity} {page:?}");
        assert!(page.has(said) && page.has("role=\"alert\""), "{quantity} {}", page.html);
        assert_eq!(page.field("quantity"), Some(quantity), "as it was filled in");
        assert_ne!(page.field("key"), Some("k"));
        // The switch of the language leads to the product, not to the list of orders.
        assert!(page.has(&format!("href=\"/products/{cup}?lang=ko\"")));
    }
    assert_eq!(shop.number("select count(*) from shop.orders").await?, 0);
    assert!(shop.events().await?.is_empty(), "to see the form again is no view");
    Ok(())
}

#[tokio::test]
async fn a_form_that_has_ordered_says_so_when_it_is_sent_with_other_values() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let mut fields = order_fields(&shop, cup).await?;
    open(form(&shop, "/orders", &pairs(&fields))).await?.location();
    fields[1].1 = "3".to_owned();
    let page = open(form(&shop, "/orders", &pairs(&fields))).await?;
    assert_eq!(page.status, StatusCode::CONFLICT);
    assert!(page.has("An order was placed with this form before."), "{}", page.html);
    assert_ne!(page.field("key"), Some(fields[2].1.as_str()), "the form below orders anew");
    assert_eq!(shop.stock(cup).await?.0, 4);
    Ok(())
}

#[tokio::test]
async fn strangers_see_products_and_nothing_of_a_buyers() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let page = open(shop.browse(Method::GET, &format!("/products/{cup}"))).await?;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.has("컵") && !page.has("<fieldset"), "{}", page.html);
    for path in ["/orders", "/orders/1", "/likes"] {
        let page = open(shop.browse(Method::GET, path)).await?;
        assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(page.has("Please sign in"), "{path} {}", page.html);
    }
    for (path, fields) in [
        (format!("/products/{cup}/like"), vec![("liked", "true")]),
        ("/orders".to_owned(), vec![("product_id", "1"), ("quantity", "1"), ("key", "k")]),
        ("/orders/1/cancel".to_owned(), vec![]),
    ] {
        let request = shop.browse(Method::POST, &path).header("sec-fetch-site", "same-origin").form(&fields);
        assert_eq!(open(request).await?.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn an_order_of_which_nobody_knows_keeps_its_form_so_that_it_orders_once() -> anyhow::Result<()> {
    let cache = Arc::new(local_cache()?);
    let shop = TestShop::start_with(Choices { cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let fields = order_fields(&shop, cup).await?;
    eventually("the card is cached", async || Ok(cache.read(&[cup]).await?[0].card.clone())).await?;
    outages::close(&shop.database).await?;
    let page = open(form(&shop, "/orders", &pairs(&fields))).await?;
    assert_eq!((page.status, page.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert!(page.has("It is not certain that the order was placed."), "{}", page.html);
    assert_eq!(page.field("key"), Some(fields[2].1.as_str()));
    outages::open(&shop.database).await?;
    let placed = eventually("the database is back", async || {
        let page = open(form(&shop, "/orders", &pairs(&fields))).await?;
        Ok((page.status == StatusCode::SEE_OTHER).then(|| page.location().to_owned()))
    })
    .await?;
    assert!(show(&shop, &placed).await?.has("Thank you."));
    assert_eq!(shop.stock(cup).await?.0, 4);
    Ok(())
}
