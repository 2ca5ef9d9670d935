//! Connections that take their time, or too much of the server.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Choices, TestShop, api_settings, send};

/// Reached only when nothing is done.
const PATIENCE: Duration = Duration::from_secs(60);

/// All that the server answers until it closes the connection.
async fn read_to_the_end(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut answer = Vec::new();
    // A connection that is reset has ended too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8(answer)?)
}

async fn connect(shop: &TestShop, text: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(shop.address()?).await?;
    stream.write_all(text.as_bytes()).await?;
    Ok(stream)
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.head_timeout = Duration::from_millis(300);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    for said in ["", "GET /api/v1/products HTTP/1.1\r\nhost: sh"] {
        let mut slow = connect(&shop, said).await?;
        let answer = read_to_the_end(&mut slow).await?;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{said:?}: {answer}");
    }
    assert_eq!(shop.list("size=1").await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_as_long_as_a_request_may_take() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.request_timeout = Duration::from_millis(300);
    (api.view_wait, api.view_commit_wait) = (Duration::from_millis(50), Duration::from_millis(50));
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let head = "POST /api/v1/orders HTTP/1.1\r\nhost: shop\r\nx-user-id: 7\r\ncontent-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{";
    let answer = read_to_the_end(&mut connect(&shop, head).await?).await?;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("TIMED_OUT"), "{answer}");
    assert_eq!(shop.number("select count(*) from shop.orders").await?, 0);
    Ok(())
}

#[tokio::test]
async fn one_connection_more_than_the_limit_waits_for_a_place() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.connections_max = 1;
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let request = "GET /api/v1/products HTTP/1.1\r\nhost: shop\r\n\r\n";
    let mut first = connect(&shop, request).await?;
    let mut answered = [0; 12];
    first.read_exact(&mut answered).await?;
    assert_eq!(&answered, b"HTTP/1.1 200");
    let second = shop.request(Method::GET, "/api/v1/products");
    let waits = tokio::time::timeout(Duration::from_millis(300), second.send()).await;
    assert!(waits.is_err(), "the only place is taken");
    drop(first);
    eventually("the place is free", async || {
        let answer = send(shop.request(Method::GET, "/api/v1/products")).await?;
        Ok((answer.status == StatusCode::OK).then_some(()))
    })
    .await
}
