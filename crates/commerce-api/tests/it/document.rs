//! The document tells what the server does, and its pages ask nobody else.

use std::collections::BTreeMap;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{TestShop, send};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

async fn document(shop: &TestShop) -> anyhow::Result<Value> {
    let response = shop.request(Method::GET, "/openapi.json").send().await?;
    assert_eq!(response.headers()["content-type"], "application/json");
    Ok(response.json().await?)
}

async fn page(shop: &TestShop, path: &str) -> anyhow::Result<Response> {
    Ok(shop.request(Method::GET, path).send().await?)
}

#[tokio::test]
async fn the_served_document_is_the_one_in_the_repository() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let served = shop.request(Method::GET, "/openapi.json").send().await?.text().await?;
    assert!(served == include_str!("../../openapi.json"));
    Ok(())
}

#[tokio::test]
async fn a_path_takes_the_methods_that_the_document_names_and_no_other() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let document = document(&shop).await?;
    let paths: BTreeMap<String, Value> = serde_json::from_value(document["paths"].clone())?;
    assert!(paths.len() > 10, "{paths:?}");
    for (path, item) in paths {
        for method in METHODS {
            let request = shop.request(method.to_uppercase().parse()?, &path.replace("{id}", "1"));
            let answer = send(request).await?;
            let is_refused = answer.status == StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_refused, item.get(method).is_none(), "{method} {path}");
            assert_ne!(answer.code(), "NOT_FOUND", "{method} {path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn answers_have_the_fields_that_the_document_names() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let document = document(&shop).await?;
    let product = shop.products(&[5]).await?[0];
    let order = shop.order(7, &[(product, 1)]).await?;
    let fields = |schema: &str| -> Vec<String> {
        let properties = document["components"]["schemas"][schema]["properties"].as_object();
        properties.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let of = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(of(order.data()), fields("PlacedResponse"));
    assert_eq!(of(&order.data()["items"][0]), fields("LineResponse"));
    assert_eq!(of(&shop.list("").await?.data()["items"][0]), fields("ProductResponse"));
    assert_eq!(of(shop.set_stock(product, 3).await?.data()), fields("StockResponse"));
    assert_eq!(of(shop.like(7, product).await?.data()), fields("LikeResponse"));
    let refused = shop.order(7, &[(product, 9)]).await?;
    assert_eq!(of(&refused.body), fields("Failure"));
    assert_eq!(of(&refused.body["meta"]), fields("FailureMeta"));
    let codes = &document["components"]["schemas"]["ErrorCode"]["enum"];
    assert!(codes.as_array().is_some_and(|codes| codes.contains(&json!(refused.code()))), "{codes}");
    Ok(())
}

#[tokio::test]
async fn the_pages_are_served_whole_and_ask_nobody_else() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let index = page(&shop, "/docs").await?;
    assert!(index.url().path().starts_with("/docs"));
    let policy = index.headers()["content-security-policy"].to_str()?.to_owned();
    assert!(policy.starts_with("default-src 'self'"), "{policy}");
    assert!(!policy.contains("http"), "{policy}");
    let html = index.text().await?;
    let linked: Vec<&str> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(linked.len() >= 4, "{html}");
    for link in linked {
        assert!(!link.contains("//"), "{link}");
        let asset = page(&shop, &format!("/docs/{}", link.trim_start_matches("./"))).await?;
        assert_eq!(asset.status(), StatusCode::OK, "{link}");
        assert!(asset.headers().contains_key("content-security-policy"), "{link}");
    }
    let settings = page(&shop, "/docs/swagger-initializer.js").await?.text().await?;
    assert!(settings.contains("/openapi.json"), "{settings}");
    assert!(settings.contains("\"validatorUrl\": \"none\""), "{settings}");
    assert_eq!(page(&shop, "/docs/../../Cargo.toml").await?.status(), StatusCode::NOT_FOUND);
    assert_eq!(page(&shop, "/docs/%2e%2e/Cargo.toml").await?.status(), StatusCode::NOT_FOUND);
    assert_eq!(send(shop.request(Method::GET, "/openapi")).await?.code(), "NOT_FOUND");
    Ok(())
}
