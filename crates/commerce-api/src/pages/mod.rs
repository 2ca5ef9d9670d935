//! The storefront: the shop's pages for people, rendered here and complete without a script.
//!
//! Invariants: everything below HTTP is shared with the routes of the api; a body reaches a handler only as a
//! [`submission::Submission`], which refuses what no page of ours sent; every page goes out through [`frame::send`] with the same
//! headers; every word stands in [`texts`]. A page is served without counts rather than refused, and says so. Deliberately
//! absent: pages of the merchant.

mod assets;
mod cookies;
mod done;
mod failure;
mod frame;
mod likes;
mod locale;
mod orders;
mod picture;
mod products;
mod rankings;
mod shopper;
mod sign_in;
mod submission;
mod texts;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tower_http::compression::CompressionLayer;

use crate::App;

pub(crate) use assets::Assets;
pub(crate) use cookies::Cookies;
pub(crate) use failure::Reader;
pub(crate) use frame::Storefront;

/// The routes of the pages. None of them is one of the api, and no page is in its document.
pub(crate) fn router(body_bytes_max: usize) -> Router<Arc<App>> {
    Router::new()
        .route("/", get(products::list))
        .route("/products/{id}", get(products::show))
        .route("/products/{id}/like", post(products::like))
        .route("/orders", get(orders::list).post(orders::place))
        .route("/orders/{id}", get(orders::show))
        .route("/orders/{id}/cancel", post(orders::cancel))
        .route("/likes", get(likes::list))
        .route("/rankings", get(rankings::list))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/{name}", get(assets::serve))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(CompressionLayer::new())
}
