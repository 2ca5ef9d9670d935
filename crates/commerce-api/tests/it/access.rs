//! Who may do what: the gateway's word, and nobody else's.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Choices, TestShop, order_body, send};

/// Each route with the body that it takes, and whether it is the merchant's.
fn closed_routes() -> Vec<(Method, &'static str, serde_json::Value, bool)> {
    let product = json!({ "code": "c", "name": "n", "price": 1, "stock": 1 });
    vec![
        (Method::POST, "/api/v1/like/products/1", json!({}), false),
        (Method::DELETE, "/api/v1/like/products/1", json!({}), false),
        (Method::GET, "/api/v1/like/products", json!({}), false),
        (Method::POST, "/api/v1/orders", order_body(&[(1, 1)]), false),
        (Method::GET, "/api/v1/orders", json!({}), false),
        (Method::GET, "/api/v1/orders/1", json!({}), false),
        (Method::POST, "/api/v1/orders/1/cancel", json!({}), false),
        (Method::POST, "/api-admin/v1/products", product.clone(), true),
        (Method::POST, "/api-admin/v1/products/bulk", json!({ "products": [product] }), true),
        (Method::PATCH, "/api-admin/v1/products/1", json!({ "price": 1 }), true),
        (Method::POST, "/api-admin/v1/products/1/stock/adjust", json!({ "delta": 1 }), true),
        (Method::PUT, "/api-admin/v1/products/1/stock", json!({ "quantity": 1 }), true),
    ]
}

#[tokio::test]
async fn without_a_caller_nothing_of_a_buyer_or_merchant_is_open() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for (method, path, body, _) in closed_routes() {
        let answer = send(shop.request(method.clone(), path).json(&body)).await?;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "UNAUTHENTICATED"), "{method} {path}");
        for user in ["0", "-1", "abc", "", "9223372036854775808", "1 ", "1,2", "\u{e9}"] {
            let request = shop.request(method.clone(), path).json(&body).header("x-user-id", user);
            let answer = send(request).await?;
            // Blanks around a header's value are not part of it.
            if user.trim() != "1" {
                assert_eq!(answer.status.as_u16(), 401, "{method} {path} {user:?}");
            }
        }
        let twice =
            shop.request(method.clone(), path).json(&body).header("x-user-id", 1).header("x-user-id", 2);
        assert_eq!(send(twice).await?.status.as_u16(), 401, "{method} {path}");
    }
    Ok(())
}

#[tokio::test]
async fn only_an_admin_changes_products() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for (method, path, body, _) in closed_routes().into_iter().filter(|route| route.3) {
        for role in [None, Some("buyer"), Some("Admin"), Some("admin,buyer"), Some("")] {
            let mut request = shop.as_user(method.clone(), path, 1).json(&body);
            if let Some(role) = role {
                request = request.header("x-user-role", role);
            }
            let answer = send(request).await?;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (403, "FORBIDDEN"),
                "{method} {path} {role:?}"
            );
        }
        let alone = shop.request(method.clone(), path).json(&body).header("x-user-role", "admin");
        assert_eq!(send(alone).await?.status.as_u16(), 401, "{method} {path}");
    }
    assert_eq!(shop.number("select count(*) from shop.product").await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_word_of_a_peer_outside_the_gateways_networks_counts_nothing() -> anyhow::Result<()> {
    let mut choices = Choices::ordinary()?;
    choices.auth.gateway_networks = vec!["10.0.0.0/8".parse()?, "::1/128".parse()?];
    let shop = TestShop::start_with(choices).await?;
    for (method, path, body, _) in closed_routes() {
        let request = shop.as_admin(method.clone(), path).json(&body);
        let answer = send(request.header("x-forwarded-for", "10.0.0.1")).await?;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "FORBIDDEN"), "{method} {path}");
    }

    // A public page stays open, and the view is nobody's in particular.
    sqlx::raw_sql(
        "insert into shop.product (code, name, price) values ('c', 'n', 1);
         insert into shop.stock (product_id, quantity) select id, 1 from shop.product",
    )
    .execute(&mut shop.connect().await?)
    .await?;
    let page = send(shop.as_user(Method::GET, "/api/v1/products/1", 7)).await?;
    assert_eq!(page.status.as_u16(), 200);
    assert_eq!(shop.events().await?[0].payload, json!({ "productId": 1 }));
    Ok(())
}
