//! Hostile input is answered with a 4xx and a code: no panic, no 5xx.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use crate::harness::{Answer, TestShop, send};

fn assert_refused(what: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{what}: {answer:?}");
    assert_eq!(answer.body["meta"]["result"], "FAIL", "{what}");
    assert!(answer.body["meta"]["message"].is_string(), "{what}");
}

#[tokio::test]
async fn hostile_bodies_are_refused_with_a_code() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    let item = |quantity: &str| format!(r#"{{"items":[{{"productId":{product},"quantity":{quantity}}}]}}"#);
    let deep = format!("{{\"items\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let deep_unknown = format!("{{\"x\":{}1{}}}", "{\"a\":".repeat(9_000), "}".repeat(9_000));
    let many = format!("{{\"items\":[{}]}}", vec![r#"{"productId":1,"quantity":1}"#; 101].join(","));
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", vec![], 400, "INVALID_BODY"),
        ("not JSON", b"items=1".to_vec(), 400, "INVALID_BODY"),
        ("cut off", br#"{"items":[{"productId":1,"#.to_vec(), 400, "INVALID_BODY"),
        ("bad UTF-8", b"{\"items\":\"\xff\xfe\"}".to_vec(), 400, "INVALID_BODY"),
        ("NUL", b"{\"items\":[]}\0".to_vec(), 400, "INVALID_BODY"),
        ("deep", deep.into_bytes(), 400, "INVALID_BODY"),
        ("deep in an unknown field", deep_unknown.into_bytes(), 400, "INVALID_BODY"),
        ("null", b"null".to_vec(), 400, "INVALID_BODY"),
        ("an array", b"[]".to_vec(), 400, "INVALID_BODY"),
        (
            "fields without names",
            format!("[[{{\"productId\":{product},\"quantity\":1}}]]").into(),
            400,
            "INVALID_BODY",
        ),
        ("items without names", format!("{{\"items\":[[{product},1]]}}").into(), 400, "INVALID_BODY"),
        ("unknown field", br#"{"items":[],"admin":true}"#.to_vec(), 400, "INVALID_BODY"),
        ("no items", br#"{"items":[]}"#.to_vec(), 422, "NO_LINES"),
        ("too many items", many.into_bytes(), 422, "TOO_MANY_LINES"),
        ("quantity 0", item("0").into_bytes(), 422, "INVALID_QUANTITY"),
        ("quantity -1", item("-1").into_bytes(), 422, "INVALID_QUANTITY"),
        ("quantity beyond the limit", item("1000001").into_bytes(), 422, "INVALID_QUANTITY"),
        ("quantity i64::MAX", item("9223372036854775807").into_bytes(), 422, "INVALID_QUANTITY"),
        ("quantity i64::MIN", item("-9223372036854775808").into_bytes(), 422, "INVALID_QUANTITY"),
        ("quantity beyond i64", item("9223372036854775808").into_bytes(), 400, "INVALID_BODY"),
        ("quantity 1.5", item("1.5").into_bytes(), 400, "INVALID_BODY"),
        ("quantity 1e400", item("1e400").into_bytes(), 400, "INVALID_BODY"),
        ("quantity as text", item("\"1\"").into_bytes(), 400, "INVALID_BODY"),
        ("product 0", br#"{"items":[{"productId":0,"quantity":1}]}"#.to_vec(), 400, "INVALID_ID"),
        ("oversize", vec![b' '; 64 * 1024 + 1], 413, "BODY_TOO_LARGE"),
    ];
    for (what, body, status, code) in cases {
        let request =
            shop.as_user(Method::POST, "/api/v1/orders", 7).header(CONTENT_TYPE, "application/json");
        assert_refused(what, &send(request.body(body)).await?, status, code);
    }
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "\u{e9}"] {
        let request = shop.as_user(Method::POST, "/api/v1/orders", 7).header(CONTENT_TYPE, media_type);
        assert_refused(media_type, &send(request.body(item("1"))).await?, 415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let untyped = shop.as_user(Method::POST, "/api/v1/orders", 7).body(item("1"));
    assert_refused("no media type", &send(untyped).await?, 415, "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(shop.stock(product).await?, (5, 1));
    Ok(())
}

#[tokio::test]
async fn hostile_products_are_refused_with_a_code() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = |code: &str, name: &str, price: i64, stock: i64| json!({ "code": code, "name": name, "price": price, "stock": stock });
    for (body, status, code) in [
        (product("a\0", "n", 1, 1), 422, "INVALID_CODE"),
        (product("", "n", 1, 1), 422, "INVALID_CODE"),
        (product(&"c".repeat(101), "n", 1, 1), 422, "INVALID_CODE"),
        (product("a", "n\0", 1, 1), 422, "INVALID_NAME"),
        (product("a", "\u{1b}[2J", 1, 1), 422, "INVALID_NAME"),
        (product("a", &"n".repeat(501), 1, 1), 422, "INVALID_NAME"),
        (product("a", "n", -1, 1), 422, "INVALID_PRICE"),
        (product("a", "n", i64::MAX, 1), 422, "INVALID_PRICE"),
        (product("a", "n", 1, -1), 422, "INVALID_STOCK"),
        (product("a", "n", 1, i64::MAX), 422, "INVALID_STOCK"),
        (json!({ "code": "a", "name": "n", "brand": "", "price": 1, "stock": 1 }), 422, "INVALID_BRAND"),
        (json!(["a", "n", "b", 1, 1]), 400, "INVALID_BODY"),
        (
            json!({ "code": "a", "name": "n", "brand": "b".repeat(101), "price": 1, "stock": 1 }),
            422,
            "INVALID_BRAND",
        ),
        (json!({ "code": "a" }), 400, "INVALID_BODY"),
        (json!({ "code": "\u{fffd}", "name": 5, "price": 1, "stock": 1 }), 400, "INVALID_BODY"),
    ] {
        let answer = send(shop.as_admin(Method::POST, "/api-admin/v1/products").json(&body)).await?;
        assert_refused(&body.to_string(), &answer, status, code);
    }
    let lone_surrogate = shop.as_admin(Method::POST, "/api-admin/v1/products");
    let lone_surrogate = lone_surrogate
        .header(CONTENT_TYPE, "application/json")
        .body(r#"{"code":"\ud800","name":"n","price":1,"stock":1}"#);
    assert_refused("lone surrogate", &send(lone_surrogate).await?, 400, "INVALID_BODY");
    let bulk = |products: serde_json::Value| {
        shop.as_admin(Method::POST, "/api-admin/v1/products/bulk").json(&json!({ "products": products }))
    };
    assert_refused("none", &send(bulk(json!([]))).await?, 422, "NO_PRODUCTS");
    let nameless = json!([["a", "n", "b", 1, 1]]);
    assert_refused("fields without names", &send(bulk(nameless)).await?, 400, "INVALID_BODY");
    let many = vec![product("a", "n", 1, 1); 1_001];
    assert_refused("too many", &send(bulk(json!(many))).await?, 422, "TOO_MANY_PRODUCTS");
    let twice = vec![product("a", "n", 1, 1); 2];
    assert_refused("twice", &send(bulk(json!(twice))).await?, 422, "DUPLICATE_CODE");
    let large = vec![product("a", &"n".repeat(2_000), 1, 1); 600];
    assert_refused("more than 1 MiB", &send(bulk(json!(large))).await?, 413, "BODY_TOO_LARGE");
    assert_eq!(shop.number("select count(*) from shop.product").await?, 0);
    Ok(())
}

#[tokio::test]
async fn hostile_changes_are_refused_with_a_code() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    let path = format!("/api-admin/v1/products/{product}");
    for (body, status, code) in [
        (json!({}), 422, "NOTHING_TO_CHANGE"),
        (json!({ "name": "" }), 422, "INVALID_NAME"),
        (json!({ "name": "n".repeat(501) }), 422, "INVALID_NAME"),
        (json!({ "brand": "b".repeat(101) }), 422, "INVALID_BRAND"),
        (json!({ "price": -1 }), 422, "INVALID_PRICE"),
        (json!({ "price": 1_000_000_001 }), 422, "INVALID_PRICE"),
        (json!({ "stock": 1 }), 400, "INVALID_BODY"),
        (json!({ "code": "other" }), 400, "INVALID_BODY"),
        (json!(["name", null, 1]), 400, "INVALID_BODY"),
    ] {
        let answer = send(shop.as_admin(Method::PATCH, &path).json(&body)).await?;
        assert_refused(&body.to_string(), &answer, status, code);
    }
    let unknown = shop.as_admin(Method::PATCH, "/api-admin/v1/products/404").json(&json!({ "price": 1 }));
    assert_refused("unknown", &send(unknown).await?, 404, "PRODUCT_NOT_FOUND");
    for (body, status, code) in [
        (json!({ "delta": 0 }), 422, "NOTHING_TO_CHANGE"),
        (json!({ "delta": i64::MIN }), 409, "SOLD_OUT"),
        (json!({ "delta": -6 }), 409, "SOLD_OUT"),
        (json!({ "delta": i64::MAX }), 422, "INVALID_STOCK"),
        (json!({ "delta": 1, "version": 2 }), 409, "VERSION_CHANGED"),
        (json!([1, null]), 400, "INVALID_BODY"),
        (json!({}), 400, "INVALID_BODY"),
    ] {
        let request = shop.as_admin(Method::POST, &format!("{path}/stock/adjust")).json(&body);
        assert_refused(&body.to_string(), &send(request).await?, status, code);
    }
    let unknown = shop.as_admin(Method::POST, "/api-admin/v1/products/404/stock/adjust");
    let unknown = send(unknown.json(&json!({ "delta": 1 }))).await?;
    assert_refused("unknown", &unknown, 404, "PRODUCT_NOT_FOUND");
    assert_eq!(shop.stock(product).await?, (5, 1));
    Ok(())
}

#[tokio::test]
async fn hostile_paths_queries_and_keys_are_refused_with_a_code() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for (path, status, code) in [
        ("/api/v1/products/0", 400, "INVALID_ID"),
        ("/api/v1/products/-1", 400, "INVALID_ID"),
        ("/api/v1/products/abc", 400, "INVALID_ID"),
        ("/api/v1/products/9223372036854775808", 400, "INVALID_ID"),
        ("/api/v1/products/99999999999999999999999999", 400, "INVALID_ID"),
        ("/api/v1/products/9223372036854775807", 404, "PRODUCT_NOT_FOUND"),
        ("/api/v1/products/1%00", 400, "INVALID_ID"),
        ("/api/v1/products/%ff%fe", 400, "INVALID_ID"),
        ("/api/v1/products/1'%20or%20'1'='1", 400, "INVALID_ID"),
        ("/api/v1/products/%D9%A1", 400, "INVALID_ID"),
        ("/api/v1/products?page=-1", 400, "INVALID_QUERY"),
        ("/api/v1/products?page=x", 400, "INVALID_QUERY"),
        ("/api/v1/products?page=99999999999999999999999", 400, "INVALID_QUERY"),
        ("/api/v1/products?page=18446744073709551615&size=100", 422, "INVALID_PAGE"),
        ("/api/v1/products?page=1000&size=100", 422, "INVALID_PAGE"),
        ("/api/v1/products?size=0", 422, "INVALID_PAGE"),
        ("/api/v1/products?size=101", 422, "INVALID_PAGE"),
        ("/api/v1/products?sort=price;drop%20table", 400, "INVALID_QUERY"),
        ("/api/v1/products?sort=%ff", 400, "INVALID_QUERY"),
        ("/api/v1/products?size=1&size=2", 400, "INVALID_QUERY"),
        ("/api/v1/products?sort=likes", 400, "INVALID_QUERY"),
        ("/api/v1/products?q=", 422, "INVALID_SEARCH"),
        ("/api/v1/products?q=%20", 422, "INVALID_SEARCH"),
        ("/api/v1/products?q=a%00", 422, "INVALID_SEARCH"),
        ("/api/v1/products?q=a&q=b", 400, "INVALID_QUERY"),
        ("/api/v1/products?brand=", 422, "INVALID_BRAND"),
        ("/api/v1/products?brand=%0a", 422, "INVALID_BRAND"),
        ("/api/v1/rankings?date=20260230", 422, "INVALID_DATE"),
        ("/api/v1/rankings?date=2026-03-01", 422, "INVALID_DATE"),
        ("/api/v1/rankings?date=99999999", 422, "INVALID_DATE"),
        ("/api/v1/rankings?date=20991231", 422, "INVALID_DATE"),
        ("/api/v1/rankings?date=19991231", 422, "INVALID_DATE"),
        ("/api/v1/rankings?date=%ef%bc%92", 422, "INVALID_DATE"),
        ("/api/v1/rankings?hour=1", 422, "INVALID_DATE"),
        ("/api/v1/rankings?period=hourly&date=20200101&hour=24", 422, "INVALID_DATE"),
        ("/api/v1/rankings?period=hourly&hour=-1", 400, "INVALID_QUERY"),
        ("/api/v1/rankings?period=yearly", 400, "INVALID_QUERY"),
        ("/api/v1/rankings?page=100&size=100", 422, "INVALID_PAGE"),
        ("/api/v1/orders/0", 400, "INVALID_ID"),
        ("/api/v1/orders/1", 404, "ORDER_NOT_FOUND"),
        ("/api/v1/nothing", 404, "NOT_FOUND"),
        ("/nothing", 404, "NOT_FOUND"),
    ] {
        assert_refused(path, &send(shop.as_user(Method::GET, path, 7)).await?, status, code);
    }
    for (query, code) in [("q", "INVALID_SEARCH"), ("brand", "INVALID_BRAND")] {
        let path = format!("/api/v1/products?{query}={}", "x".repeat(101));
        assert_refused(&path, &send(shop.request(Method::GET, &path)).await?, 422, code);
    }
    let wrong_method = send(shop.request(Method::PATCH, "/api/v1/products")).await?;
    assert_refused("PATCH", &wrong_method, 405, "METHOD_NOT_ALLOWED");

    let product = shop.products(&[5]).await?[0];
    for key in ["", "a b", "\u{e9}", &"k".repeat(256), "a\tb"] {
        let request = shop.order_request(7, &[(product, 1)]).header("idempotency-key", key);
        assert_refused(key, &send(request).await?, 400, "INVALID_IDEMPOTENCY_KEY");
    }
    let twice =
        shop.order_request(7, &[(product, 1)]).header("idempotency-key", "a").header("idempotency-key", "b");
    assert_refused("two keys", &send(twice).await?, 400, "INVALID_IDEMPOTENCY_KEY");
    assert_eq!(shop.stock(product).await?, (5, 1));
    Ok(())
}

#[tokio::test]
async fn hostile_lists_of_ids_are_refused_with_a_code() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let many = format!("/api/v1/live?ids={}", vec!["1"; 20_000].join(","));
    for (path, status, code) in [
        ("/api/v1/live", 400, "INVALID_QUERY"),
        ("/api/v1/live?ids=1&ids=2", 400, "INVALID_QUERY"),
        ("/api/v1/live?ids=%ff", 400, "INVALID_ID"),
        ("/api/v1/live?ids=", 400, "INVALID_ID"),
        ("/api/v1/live?ids=1,,2", 400, "INVALID_ID"),
        ("/api/v1/live?ids=1,-2", 400, "INVALID_ID"),
        ("/api/v1/live?ids=1%00", 400, "INVALID_ID"),
        ("/api/v1/live?ids=9223372036854775808", 400, "INVALID_ID"),
        ("/api/v1/live?ids=9223372036854775807", 404, "PRODUCT_NOT_FOUND"),
        (many.as_str(), 404, "PRODUCT_NOT_FOUND"),
    ] {
        assert_refused(path, &send(shop.request(Method::GET, path)).await?, status, code);
    }
    Ok(())
}

#[tokio::test]
async fn messages_speak_the_callers_language() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let message = async |language: &str| {
        let request = shop.request(Method::GET, "/api/v1/products/5").header("accept-language", language);
        let response = request.send().await?;
        let tag = response.headers()["content-language"].to_str()?.to_owned();
        let body: serde_json::Value = response.json().await?;
        anyhow::Ok((tag, body["meta"]["message"].as_str().unwrap_or_default().to_owned()))
    };
    assert_eq!(message("ko-KR,ko;q=0.9").await?, ("ko".to_owned(), "상품을 찾을 수 없습니다".to_owned()));
    assert_eq!(message("en").await?, ("en".to_owned(), "no such product".to_owned()));
    Ok(())
}
