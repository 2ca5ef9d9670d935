//! Who may do what: everybody walks every route of the document, and gets what its `security` promises, and nothing else.
//!
//! A new route is walked as soon as it is in the document, where it must be to be served. One that is open to all has to be
//! named here too, so that none is open by mistake.

use commerce_api::tokens::{self, Revocation, Scope};
use commerce_api::{AuthMode, AuthSettings};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Map, Value, json};

use crate::harness::{Choices, TestShop, auth_settings, order_body, send};

/// Routes that are open to all.
const OPEN: [&str; 5] = ["describe", "listProducts", "listRanking", "showProduct", "watchProducts"];
/// Who has the order that the walkers name.
const OWNER: i64 = 7;
const STRANGER: i64 = 8;
const MERCHANT: i64 = 9;

/// Whom a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    All,
    Buyers,
    Merchants,
}

/// A route and what the document says of it.
struct Route {
    id: String,
    method: Method,
    path: String,
    access: Access,
    /// It names an order, which is some buyer's.
    is_of_an_order: bool,
    takes_a_body: bool,
}

/// What somebody is who asks, in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    /// Speaks as a gateway and is none.
    Impostor,
    Owner,
    Stranger,
    /// A merchant, and no buyer.
    Merchant,
    /// A merchant who may buy as well.
    BuyingMerchant,
}

/// Somebody who asks, with the headers that he sends.
struct Walker {
    name: &'static str,
    who: Who,
    headers: Vec<(&'static str, String)>,
}

fn walker(name: &'static str, who: Who, headers: &[(&'static str, &str)]) -> Walker {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Walker { name, who, headers }
}

fn bearer(name: &'static str, who: Who, token: &str) -> Walker {
    walker(name, who, &[("authorization", &format!("Bearer {token}"))])
}

/// The routes of the document that the shop serves.
async fn routes(shop: &TestShop) -> anyhow::Result<Vec<Route>> {
    let document: Value = shop.request(Method::GET, "/openapi.json").send().await?.json().await?;
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().into_iter().flatten();
        item.filter(|(_, operation)| operation.get("operationId").is_some())
            .map(move |(method, operation)| (path, method, operation))
    });
    let routes: Vec<Route> = operations
        .map(|(path, method, operation)| Route {
            id: operation["operationId"].as_str().unwrap_or_default().to_owned(),
            method: method.to_uppercase().parse().unwrap(),
            path: path.clone(),
            access: access(operation),
            is_of_an_order: operation["responses"]["404"]["description"]
                .as_str()
                .is_some_and(|text| text.contains("ORDER_NOT_FOUND")),
            takes_a_body: operation.get("requestBody").is_some(),
        })
        .collect();
    anyhow::ensure!(routes.len() > 15 && routes.iter().any(|route| route.is_of_an_order));
    Ok(routes)
}

/// The one of the three that `security` says, in the words of the gateway and of tokens alike.
fn access(operation: &Value) -> Access {
    let said = operation["security"].as_array().cloned().unwrap_or_default();
    let token = |scope: &str| json!({ "token": [scope] });
    let (buyer, merchant) = (json!({ "buyer": [] }), json!({ "buyer": [], "role": [] }));
    match &said[..] {
        [] => Access::All,
        [open, gateway, by_token]
            if *open == json!({}) && *gateway == buyer && *by_token == token("buyer") =>
        {
            Access::All
        }
        [gateway, by_token] if *gateway == buyer && *by_token == token("buyer") => Access::Buyers,
        [gateway, by_token] if *gateway == merchant && *by_token == token("admin") => Access::Merchants,
        other => panic!("{}: {other:?} is no way to say whom a route serves", operation["operationId"]),
    }
}

/// A body that the route can do something with.
fn body(route: &Route, product: i64) -> Value {
    let new = || json!({ "code": testkit::unique("code"), "name": "n", "price": 1, "stock": 1 });
    match route.id.as_str() {
        "placeOrder" => order_body(&[(product, 1)]),
        "createProduct" => new(),
        "createProducts" => json!({ "products": [new()] }),
        "changeProduct" => json!({ "price": 1 }),
        "setStock" => json!({ "quantity": 1_000 }),
        "adjustStock" => json!({ "delta": 1 }),
        id => panic!("say here what a request of {id} looks like"),
    }
}

/// Status and code that the document promises; no code for any success.
fn promised(route: &Route, who: Who) -> (u16, &'static str) {
    const SUCCESS: (u16, &str) = (200, "");
    const FORBIDDEN: (u16, &str) = (403, "FORBIDDEN");
    match (route.access, who) {
        (Access::All, _) => SUCCESS,
        (_, Who::Nobody) => (401, "UNAUTHENTICATED"),
        (_, Who::Impostor) => FORBIDDEN,
        (Access::Buyers, Who::Merchant) => FORBIDDEN,
        (Access::Buyers, Who::Stranger | Who::BuyingMerchant) if route.is_of_an_order => {
            (404, "ORDER_NOT_FOUND")
        }
        (Access::Buyers, Who::Owner | Who::Stranger | Who::BuyingMerchant) => SUCCESS,
        (Access::Merchants, Who::Merchant | Who::BuyingMerchant) => SUCCESS,
        (Access::Merchants, Who::Owner | Who::Stranger) => FORBIDDEN,
    }
}

/// A product, and an order of the owner; written past the api, which may be closed to everybody.
async fn stock(shop: &TestShop) -> anyhow::Result<(i64, i64)> {
    Ok(sqlx::query_as(
        "with product as (
             insert into shop.product (code, name, price) values ('walked', 'n', 1) returning id),
         stock as (
             insert into shop.stock (product_id, quantity) select id, 1000 from product),
         placed as (
             insert into shop.orders (user_id, total_amount) values ($1, 1) returning id),
         line as (
             insert into shop.order_line (order_id, line, product_id, quantity, unit_price)
             select placed.id, 1, product.id, 1, 1 from placed, product)
         select product.id, placed.id from product, placed",
    )
    .bind(OWNER)
    .fetch_one(&mut shop.connect().await?)
    .await?)
}

/// Everybody walks every route.
async fn walk(shop: &TestShop, mode: AuthMode, walkers: &[Walker]) -> anyhow::Result<()> {
    let (product, order) = stock(shop).await?;
    for route in routes(shop).await? {
        let id = if route.is_of_an_order { order } else { product };
        let mut path = route.path.replace("{id}", &id.to_string());
        if route.id == "watchProducts" {
            path = format!("{path}?ids={id}");
        }
        for Walker { name, who, headers } in walkers {
            let mut request = shop.request(route.method.clone(), &path);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if route.takes_a_body {
                request = request.json(&body(&route, product));
            }
            let response = request.send().await?;
            let (status, code) = promised(&route, *who);
            let what = format!("{name}: {} {}", route.method, route.path);
            if code.is_empty() {
                // A stream has no end to wait for.
                assert!(response.status().is_success(), "{what}: {}", response.status());
                continue;
            }
            assert_eq!(response.status().as_u16(), status, "{what}");
            let challenge = response.headers().get("www-authenticate").map(HeaderValue::as_bytes);
            let is_challenged = status == 401 && mode == AuthMode::Token;
            assert_eq!(challenge, is_challenged.then_some(&b"Bearer"[..]), "{what}");
            let answer: Map<String, Value> = response.json().await?;
            assert_eq!(answer["meta"]["errorCode"], code, "{what}");
        }
    }
    Ok(())
}

async fn start(auth: AuthSettings) -> anyhow::Result<TestShop> {
    TestShop::start_with(Choices { auth, ..Choices::ordinary()? }).await
}

#[tokio::test]
async fn only_the_routes_that_are_named_here_are_open_to_all() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let routes = routes(&shop).await?;
    let mut open: Vec<&str> =
        routes.iter().filter(|route| route.access == Access::All).map(|route| route.id.as_str()).collect();
    open.sort_unstable();
    assert_eq!(open, OPEN);
    for route in routes {
        let is_merchants = route.path.starts_with("/api-admin/");
        assert_eq!(route.access == Access::Merchants, is_merchants, "{} {}", route.method, route.path);
    }
    Ok(())
}

#[tokio::test]
async fn with_tokens_every_route_is_open_to_those_whom_the_document_names() -> anyhow::Result<()> {
    let shop = start(auth_settings(AuthMode::Token)?).await?;
    let owner = shop.issue(OWNER, &[Scope::Buyer]).await?;
    let stranger = shop.issue(STRANGER, &[Scope::Buyer]).await?;
    let merchant = shop.issue(MERCHANT, &[Scope::Admin]).await?;
    let both = shop.issue(MERCHANT, &[Scope::Buyer, Scope::Admin]).await?;
    let all = [Scope::Buyer, Scope::Admin];
    let (expired, revoked) = (shop.issue(101, &all).await?, shop.issue(102, &all).await?);
    let mut database = shop.connect().await?;
    sqlx::query("update shop.token set expires_at = issued_at where user_id = 101")
        .execute(&mut database)
        .await?;
    tokens::revoke(&mut database, Revocation::User(102)).await?;
    let last = if owner.ends_with('A') { 'Q' } else { 'A' };
    let unknown = format!("{}{last}", &owner[..owner.len() - 1]);
    walk(
        &shop,
        AuthMode::Token,
        &[
            walker("no token", Who::Nobody, &[]),
            walker("an empty header", Who::Nobody, &[("authorization", "")]),
            walker("another scheme", Who::Nobody, &[("authorization", &format!("Basic {owner}"))]),
            bearer("no text", Who::Nobody, ""),
            bearer("another text", Who::Nobody, "ct_' or 1=1 --"),
            bearer("too long a text", Who::Nobody, &owner.repeat(100)),
            bearer("an unknown token", Who::Nobody, &unknown),
            bearer("an expired token", Who::Nobody, &expired),
            bearer("a revoked token", Who::Nobody, &revoked),
            walker("a gateway", Who::Nobody, &[("x-user-id", "7"), ("x-user-role", "admin")]),
            bearer("the owner", Who::Owner, &owner),
            bearer("a stranger", Who::Stranger, &stranger),
            bearer("a merchant", Who::Merchant, &merchant),
            bearer("a buying merchant", Who::BuyingMerchant, &both),
        ],
    )
    .await
}

#[tokio::test]
async fn with_a_gateway_every_route_is_open_to_those_whom_the_document_names() -> anyhow::Result<()> {
    let shop = start(auth_settings(AuthMode::Gateway)?).await?;
    let token = shop.issue(OWNER, &[Scope::Buyer, Scope::Admin]).await?;
    let mut walkers = vec![
        walker("nobody", Who::Nobody, &[]),
        walker("a role alone", Who::Nobody, &[("x-user-role", "admin")]),
        walker(
            "two at once",
            Who::Nobody,
            &[("x-user-id", "7"), ("x-user-id", "8"), ("x-user-role", "admin")],
        ),
        bearer("a token", Who::Nobody, &token),
        walker("the owner", Who::Owner, &[("x-user-id", "7")]),
        walker("a stranger", Who::Stranger, &[("x-user-id", "8"), ("x-user-role", "buyer")]),
        walker("a merchant", Who::BuyingMerchant, &[("x-user-id", "9"), ("x-user-role", "admin")]),
        walker(
            "a role twice",
            Who::Owner,
            &[("x-user-id", "7"), ("x-user-role", "admin"), ("x-user-role", "admin")],
        ),
    ];
    for id in ["", "0", "-1", "abc", "7 or 1=1", "9223372036854775808", "7,8", "\u{e9}"] {
        walkers.push(walker("no id", Who::Nobody, &[("x-user-id", id), ("x-user-role", "admin")]));
    }
    for role in ["", "Admin", "admin,buyer", "administrator"] {
        walkers.push(walker("another role", Who::Owner, &[("x-user-id", "7"), ("x-user-role", role)]));
    }
    walk(&shop, AuthMode::Gateway, &walkers).await
}

#[tokio::test]
async fn who_is_no_gateway_opens_nothing_whatever_he_says() -> anyhow::Result<()> {
    let gateways = vec!["10.0.0.0/8".parse()?];
    let shop =
        start(AuthSettings { gateway_networks: gateways, ..auth_settings(AuthMode::Gateway)? }).await?;
    let token = shop.issue(OWNER, &[Scope::Buyer, Scope::Admin]).await?;
    walk(
        &shop,
        AuthMode::Gateway,
        &[
            walker("nobody", Who::Nobody, &[]),
            walker("a role alone", Who::Nobody, &[("x-user-role", "admin")]),
            bearer("a token", Who::Nobody, &token),
            walker("as the owner", Who::Impostor, &[("x-user-id", "7")]),
            walker("as a merchant", Who::Impostor, &[("x-user-id", "9"), ("x-user-role", "admin")]),
            walker(
                "as a merchant of a gateway",
                Who::Impostor,
                &[("x-user-id", "9"), ("x-user-role", "admin"), ("x-forwarded-for", "10.0.0.1")],
            ),
        ],
    )
    .await
}

#[tokio::test]
async fn a_view_is_nobodys_in_particular_when_who_names_him_is_no_gateway() -> anyhow::Result<()> {
    let gateways = vec!["10.0.0.0/8".parse()?, "::1/128".parse()?];
    let shop =
        start(AuthSettings { gateway_networks: gateways, ..auth_settings(AuthMode::Gateway)? }).await?;
    let (product, _) = stock(&shop).await?;
    let page = send(shop.as_user(Method::GET, &format!("/api/v1/products/{product}"), OWNER)).await?;
    assert_eq!(page.status.as_u16(), 200);
    assert_eq!(shop.events().await?[0].payload, json!({ "productId": product }));
    Ok(())
}
