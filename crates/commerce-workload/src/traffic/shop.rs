//! The shop as a client sees it: HTTP and its envelope, nothing else.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ledger::ViewAnswer;

/// Longer than the server's own limit, so that a request that was given up here is over there too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The header by which a page says whether its view is recorded.
const VIEW_RECORDED: &str = "View-Recorded";
/// Rows asked for at once when the whole list is read.
const PAGE_SIZE: &str = "100";
/// Whoever acts as the merchant.
const ADMIN_ID: i64 = 1;

/// Why a request brought no answer that can be entered in the ledger.
#[derive(Debug, Error)]
pub enum ShopError {
    /// Whether the command was executed is not known: ask again.
    #[error("no definite answer: {0}")]
    Indefinite(String),
    /// The server refused: the command had no effect.
    #[error("refused with {status} {code}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The envelope's `errorCode`.
        code: String,
    },
    /// The answer is not what the contract says.
    #[error("answer is not of the contract: {0}")]
    Contract(String),
}

impl ShopError {
    /// Whether the order was refused because there is not enough.
    #[must_use]
    pub fn is_sold_out(&self) -> bool {
        matches!(self, Self::Refused { status: 409, code } if code == "SOLD_OUT")
    }
}

impl From<reqwest::Error> for ShopError {
    fn from(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Indefinite(text)
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    meta: Meta,
    data: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    result: String,
    error_code: Option<String>,
}

/// A product to be created.
#[derive(Debug, Serialize)]
pub struct NewProduct<'a> {
    /// The merchant's code.
    pub code: &'a str,
    /// What buyers read.
    pub name: &'a str,
    /// Minor units.
    pub price: i64,
    /// Units.
    pub stock: i64,
}

/// A product as the list shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductRow {
    /// The product.
    pub product_id: i64,
    /// Whether buyers see it as sold out.
    pub sold_out: bool,
    /// Likes; absent while counts are down.
    pub like_count: Option<i64>,
    /// Units sold.
    pub sales_count: Option<i64>,
    /// Views.
    pub view_count: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProductPage {
    items: Vec<ProductRow>,
    has_next: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    product_ids: Vec<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlacedOrder {
    order_id: i64,
    total_amount: i64,
}

/// An order that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The order.
    pub order_id: i64,
    /// Minor units.
    pub total_amount: i64,
}

/// A client of one api process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shop {
    http: reqwest::Client,
    base: String,
}

impl Shop {
    /// A client that keeps up to `connections` idle connections to `base` (`http://host:port`).
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(base: &str, connections: usize) -> Result<Self, ShopError> {
        let http = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .pool_max_idle_per_host(connections)
            .timeout(REQUEST_TIMEOUT)
            .build()?;
        Ok(Self { http, base: base.to_owned() })
    }

    /// Looks at a product's page. Never an error when the page was not served: then the view is not recorded, or
    /// nobody knows.
    ///
    /// # Errors
    /// When the page does not say what became of the view.
    pub async fn view(&self, buyer_id: i64, product_id: i64) -> Result<ViewAnswer, ShopError> {
        let request = self.request(Method::GET, &format!("/api/v1/products/{product_id}"), buyer_id);
        let Ok(response) = request.send().await else { return Ok(ViewAnswer::Unknown) };
        let recorded = response.headers().get(VIEW_RECORDED).and_then(|value| value.to_str().ok());
        let answer = match recorded {
            Some("true") => ViewAnswer::Recorded,
            Some("false") => ViewAnswer::NotRecorded,
            Some("unknown") => ViewAnswer::Unknown,
            _ if response.status().is_server_error() => ViewAnswer::Unknown,
            other => return Err(ShopError::Contract(format!("{VIEW_RECORDED}: {other:?}"))),
        };
        // The body must be read for the connection to be used again.
        let _ = response.bytes().await;
        Ok(answer)
    }

    /// Likes a product; repeating it changes nothing.
    ///
    /// # Errors
    /// See [`ShopError`].
    pub async fn like(&self, buyer_id: i64, product_id: i64) -> Result<(), ShopError> {
        let path = format!("/api/v1/like/products/{product_id}");
        effect(self.request(Method::POST, &path, buyer_id)).await
    }

    /// Takes a like back; repeating it changes nothing.
    ///
    /// # Errors
    /// See [`ShopError`].
    pub async fn unlike(&self, buyer_id: i64, product_id: i64) -> Result<(), ShopError> {
        let path = format!("/api/v1/like/products/{product_id}");
        effect(self.request(Method::DELETE, &path, buyer_id)).await
    }

    /// Places an order of (product, units); repeating it with the same key answers the first order.
    ///
    /// # Errors
    /// See [`ShopError`].
    pub async fn place_order(
        &self,
        buyer_id: i64,
        items: &[(i64, i64)],
        key: &str,
    ) -> Result<Placed, ShopError> {
        let items: Vec<_> = items
            .iter()
            .map(|(product_id, quantity)| serde_json::json!({"productId": product_id, "quantity": quantity}))
            .collect();
        let request = self
            .request(Method::POST, "/api/v1/orders", buyer_id)
            .header("Idempotency-Key", key)
            .json(&serde_json::json!({ "items": items }));
        let placed: PlacedOrder = answer(request).await?;
        Ok(Placed { order_id: placed.order_id, total_amount: placed.total_amount })
    }

    /// Takes an order back; repeating it changes nothing.
    ///
    /// # Errors
    /// See [`ShopError`].
    pub async fn cancel_order(&self, buyer_id: i64, order_id: i64) -> Result<(), ShopError> {
        effect(self.request(Method::POST, &format!("/api/v1/orders/{order_id}/cancel"), buyer_id)).await
    }

    /// Creates products; answers their ids in the same order.
    ///
    /// # Errors
    /// See [`ShopError`].
    pub async fn create_products(&self, products: &[NewProduct<'_>]) -> Result<Vec<i64>, ShopError> {
        let body = serde_json::json!({ "products": products });
        let created: Created =
            answer(self.admin(Method::POST, "/api-admin/v1/products/bulk").json(&body)).await?;
        Ok(created.product_ids)
    }

    /// Sets the units of a product; repeating it changes nothing that buyers see.
    ///
    /// # Errors
    /// See [`ShopError`].
    pub async fn set_stock(&self, product_id: i64, quantity: i64) -> Result<(), ShopError> {
        let path = format!("/api-admin/v1/products/{product_id}/stock");
        effect(self.admin(Method::PUT, &path).json(&serde_json::json!({ "quantity": quantity }))).await
    }

    /// Every product of the list, the newest first.
    ///
    /// # Errors
    /// See [`ShopError`].
    pub async fn list_products(&self) -> Result<Vec<ProductRow>, ShopError> {
        let mut rows = Vec::new();
        for page in 0_usize.. {
            let query = [("sort", "latest"), ("page", &page.to_string()), ("size", PAGE_SIZE)];
            let request = self.http.get(format!("{}/api/v1/products", self.base)).query(&query);
            let page: ProductPage = answer(request).await?;
            rows.extend(page.items);
            if !page.has_next {
                break;
            }
        }
        Ok(rows)
    }

    fn request(&self, method: Method, path: &str, user_id: i64) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).header("X-USER-ID", user_id)
    }

    fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path, ADMIN_ID).header("X-USER-ROLE", "admin")
    }
}

/// Sends a command whose answer says nothing more than that it had its effect.
async fn effect(request: RequestBuilder) -> Result<(), ShopError> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.bytes().await?;
    if status.is_success() { Ok(()) } else { Err(refusal(status, &body)) }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ShopError> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.bytes().await?;
    if !status.is_success() {
        return Err(refusal(status, &body));
    }
    let envelope: Envelope<T> =
        serde_json::from_slice(&body).map_err(|error| ShopError::Contract(error.to_string()))?;
    match envelope.data {
        Some(data) if envelope.meta.result == "SUCCESS" => Ok(data),
        _ => Err(ShopError::Contract(format!("{status} without data"))),
    }
}

/// What a status other than success says about the effect.
fn refusal(status: StatusCode, body: &[u8]) -> ShopError {
    let code = serde_json::from_slice::<Envelope<serde_json::Value>>(body)
        .ok()
        .and_then(|envelope| envelope.meta.error_code)
        .unwrap_or_default();
    if status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
    {
        // Also a request that certainly had no effect (overload) is asked again, so nothing is lost by the doubt.
        ShopError::Indefinite(format!("{status} {code}"))
    } else {
        ShopError::Refused { status: status.as_u16(), code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sold_out_code_is_a_sold_out_order() {
        let body =
            br#"{"meta":{"result":"FAIL","errorCode":"SOLD_OUT","message":"x"},"data":{"productIds":[1]}}"#;
        assert!(refusal(StatusCode::CONFLICT, body).is_sold_out());
        let reused =
            br#"{"meta":{"result":"FAIL","errorCode":"IDEMPOTENCY_KEY_REUSED","message":"x"},"data":null}"#;
        assert!(!refusal(StatusCode::CONFLICT, reused).is_sold_out());
    }

    #[test]
    fn an_answer_that_says_nothing_about_the_effect_is_indefinite() {
        for status in [500, 502, 503, 504, 408, 429] {
            let error = refusal(StatusCode::from_u16(status).unwrap(), b"<html>");
            assert!(matches!(error, ShopError::Indefinite(_)), "{status}");
        }
        assert!(matches!(refusal(StatusCode::NOT_FOUND, b""), ShopError::Refused { status: 404, .. }));
    }
}
