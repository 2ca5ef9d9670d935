//! What no page of ours sent changes nothing, and what nobody can read is refused as a page.

use commerce_api::AuthMode;
use reqwest::{Method, StatusCode};

use super::{BUYER, form, open, order, product, show};
use crate::harness::{Choices, TestShop, auth_settings, send};

/// Fields of a form.
type Fields = Vec<(&'static str, String)>;

/// Every path of the pages, with the fields of its form if it takes one.
fn paths(product: i64, order: i64) -> Vec<(String, Option<Fields>)> {
    let key = ("key", "k".to_owned());
    let ordered = vec![("product_id", product.to_string()), ("quantity", "1".to_owned()), key];
    vec![
        ("/".to_owned(), None),
        (format!("/products/{product}"), None),
        (format!("/products/{product}/like"), Some(vec![("liked", "true".to_owned())])),
        ("/orders".to_owned(), Some(ordered)),
        (format!("/orders/{order}"), None),
        (format!("/orders/{order}/cancel"), Some(vec![])),
        ("/likes".to_owned(), None),
        ("/rankings".to_owned(), None),
        ("/assets/x".to_owned(), None),
    ]
}

#[tokio::test]
async fn a_form_that_no_page_of_this_shop_sent_is_refused() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let order = order(&shop, cup, 1).await?;
    let events = shop.events().await?.len();
    for (path, fields) in paths(cup, order) {
        for origin in [
            vec![],
            vec![("sec-fetch-site", "cross-site")],
            vec![("sec-fetch-site", "same-site")],
            vec![("sec-fetch-site", "none")],
            vec![("origin", "https://evil.example")],
            vec![("origin", "null")],
            vec![("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1")],
        ] {
            let mut request = shop.browse(Method::POST, &path).header("x-user-id", BUYER);
            for (name, value) in &origin {
                request = request.header(*name, *value);
            }
            let page = open(request.form(&fields.clone().unwrap_or_default())).await?;
            let expected = match fields {
                Some(_) => StatusCode::FORBIDDEN,
                None => StatusCode::METHOD_NOT_ALLOWED,
            };
            assert_eq!(page.status, expected, "{path} {origin:?} {page:?}");
            assert!(page.has("</html>"), "{path}");
        }
    }
    assert_eq!(shop.events().await?.len(), events, "nothing changed");
    Ok(())
}

#[tokio::test]
async fn a_form_of_this_shop_is_known_by_its_origin_where_browsers_say_no_more() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let path = format!("/products/{cup}/like");
    let request = shop.browse(Method::POST, &path).header("x-user-id", BUYER).form(&[("liked", "true")]);
    let request = request.header("host", "shop.example").header("origin", "https://shop.example");
    assert_eq!(open(request).await?.status, StatusCode::SEE_OTHER);
    Ok(())
}

#[tokio::test]
async fn hostile_forms_are_refused_as_pages() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?.to_string();
    for (product, key, status) in [
        ("0", "k", 400),
        ("1 or 1=1", "k", 400),
        ("9223372036854775807", "k", 404),
        (cup.as_str(), "", 400),
        (cup.as_str(), "\u{e9}", 400),
        (cup.as_str(), "a b", 400),
    ] {
        let fields = [("product_id", product), ("quantity", "1"), ("key", key)];
        let page = open(form(&shop, "/orders", &fields)).await?;
        assert_eq!(page.status.as_u16(), status, "{product} {key} {page:?}");
        assert!(page.has("</html>"), "{page:?}");
    }
    let like = format!("/products/{cup}/like");
    for (path, fields) in
        [("/orders", vec![("quantity", "1")]), (&like, vec![]), (&like, vec![("liked", "perhaps")])]
    {
        assert_eq!(open(form(&shop, path, &fields)).await?.status.as_u16(), 400, "{path} {fields:?}");
    }
    let large = "x".repeat(64 * 1024 + 1);
    let page = open(form(&shop, &like, &[("liked", &large)])).await?;
    assert_eq!(page.status, StatusCode::PAYLOAD_TOO_LARGE);
    let json = shop.browse(Method::POST, &like).header("sec-fetch-site", "same-origin");
    assert_eq!(open(json.json("liked")).await?.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(shop.events().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn hostile_queries_are_refused_as_pages() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for (path, status) in [
        ("/?sort=id;drop", 400),
        ("/?page=-1", 400),
        ("/?page=99999999", 422),
        ("/?q=%00", 422),
        ("/?q=%ff", 200),
        ("/?brand=%00", 422),
        ("/products/abc", 400),
        ("/products/%ff", 400),
        ("/products/9223372036854775807", 404),
        ("/rankings?period=yearly", 400),
        ("/rankings?date=20991231", 422),
        ("/orders?page=x", 400),
        ("/nothing", 404),
        ("/assets/shop.css", 404),
        ("/assets/..%2fCargo.toml", 404),
        ("/%00", 404),
    ] {
        let page = show(&shop, path).await?;
        assert_eq!(page.status.as_u16(), status, "{path} {page:?}");
        assert!(page.header("content-type").starts_with("text/html"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn machines_get_envelopes_and_people_pages() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for path in ["/nothing", "/products/abc", "/orders"] {
        let answer = send(shop.request(Method::GET, path)).await?;
        assert_eq!(answer.body["meta"]["result"], "FAIL", "{path}");
    }
    for path in ["/api/v1/nothing", "/api/v1/products/abc", "/api/v1/orders", "/api-admin/v1/products"] {
        let answer = open(shop.browse(Method::GET, path)).await?;
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn who_asks_too_often_is_told_so_on_a_page() -> anyhow::Result<()> {
    let mut by_caller = Choices::ordinary()?;
    (by_caller.api.rate_caller_per_minute, by_caller.api.rate_caller_burst) = (6, 2);
    let mut by_address = Choices { auth: auth_settings(AuthMode::Token)?, ..Choices::ordinary()? };
    (by_address.api.rate_address_per_minute, by_address.api.rate_address_burst) = (6, 2);
    by_address.auth.gateway_networks = vec!["10.0.0.0/8".parse()?];
    for choices in [by_caller, by_address] {
        let shop = TestShop::start_with(choices).await?;
        for path in ["/", "/rankings"] {
            assert_eq!(show(&shop, path).await?.status, StatusCode::OK);
        }
        for path in ["/", "/?lang=ko", "/products/1"] {
            let page = show(&shop, path).await?;
            assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS, "{path} {page:?}");
            assert!(page.has("TOO_MANY_REQUESTS") && page.has("</html>"), "{page:?}");
            let heading =
                if path.contains("ko") { "요청이 너무 많습니다" } else { "That was a little fast" };
            assert!(page.has(heading), "{page:?}");
            let wait: u64 = page.header("retry-after").parse()?;
            assert!((1..=10).contains(&wait), "{wait}");
        }
    }
    Ok(())
}
