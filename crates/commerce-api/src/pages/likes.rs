//! `/likes`: what the buyer likes.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::frame::{Frame, Section, send};
use super::shopper::Shopper;
use super::view::{Pager, ProductView};
use crate::App;
use crate::error::ApiError;
use crate::routes::extract::Slice;
use crate::routes::likes::load_liked;

#[derive(Template)]
#[template(path = "likes.html")]
struct LikesPage<'a> {
    frame: Frame<'a>,
    products: Vec<ProductView>,
    pager: Pager,
}

/// `GET /likes`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    mut shopper: Shopper,
    Slice(page): Slice,
) -> Result<Response, ApiError> {
    let context = shopper.buyer(&app)?;
    let t = shopper.texts();
    let liked = load_liked(&app, context.user_id, page).await?;
    let page = LikesPage {
        frame: shopper.frame(&app, Section::Likes, t.my_likes.to_owned())?,
        pager: Pager::new(t, &shopper.here, page, liked.has_next),
        products: liked.items.into_iter().map(Into::into).collect(),
    };
    send(StatusCode::OK, shopper.locale, shopper.keeping(), &page)
}
