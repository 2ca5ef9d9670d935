//! The buyers' and the merchant's HTTP: requests in, envelopes out. Rules stand in `domain`, effects in `commands`.

mod admin;
mod envelope;
mod extract;
mod guard;
mod likes;
mod orders;
mod products;
mod rankings;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, patch, post, put};
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;

use crate::App;
use crate::error::ApiError;

/// Every route, behind one guard.
pub(crate) fn router(app: Arc<App>) -> Router {
    let bulk = Router::new()
        .route("/api-admin/v1/products/bulk", post(admin::create_products))
        .layer(DefaultBodyLimit::max(app.settings.bulk_body_bytes_max));
    Router::new()
        .route("/api/v1/products", get(products::list))
        .route("/api/v1/products/{id}", get(products::show))
        .route("/api/v1/rankings", get(rankings::list))
        .route("/api/v1/like/products", get(likes::list))
        .route("/api/v1/like/products/{id}", post(likes::like).delete(likes::unlike))
        .route("/api/v1/orders", post(orders::place).get(orders::list))
        .route("/api/v1/orders/{id}", get(orders::show))
        .route("/api/v1/orders/{id}/cancel", post(orders::cancel))
        .route("/api-admin/v1/products", post(admin::create_product))
        .route("/api-admin/v1/products/{id}", patch(admin::change_product))
        .route("/api-admin/v1/products/{id}/stock", put(admin::set_stock))
        .route("/api-admin/v1/products/{id}/stock/adjust", post(admin::adjust_stock))
        .layer(DefaultBodyLimit::max(app.settings.body_bytes_max))
        .merge(bulk)
        .method_not_allowed_fallback(async || ApiError::NoMethod)
        .fallback(async || ApiError::NoRoute)
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}
