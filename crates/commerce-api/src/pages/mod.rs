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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::router;

    #[test]
    fn the_pages_are_these_and_none_is_a_route_of_the_api() {
        // The router does not list its paths but for debugging, in quotes; one is that of its own fallback.
        let routed = format!("{:?}", router(1));
        let routed: BTreeSet<&str> = routed
            .split('"')
            .filter(|piece| piece.starts_with('/') && *piece != "/{*__private__axum_fallback}")
            .collect();
        let pages = BTreeSet::from([
            "/",
            "/assets/{name}",
            "/likes",
            "/orders",
            "/orders/{id}",
            "/orders/{id}/cancel",
            "/products/{id}",
            "/products/{id}/like",
            "/rankings",
            "/sign-in",
            "/sign-out",
        ]);
        assert_eq!(routed, pages);
        let document = include_str!("../../openapi.json");
        assert!(pages.iter().all(|page| !document.contains(&format!("\"{page}\": {{"))));
    }
}
