//! Who looks at a page, in which language, from where.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::Uri;
use axum::http::request::Parts;

use super::frame::{Frame, Keeping, Section};
use super::locale::Locale;
use super::texts::Texts;
use crate::App;
use crate::commands::Context;
use crate::error::ApiError;
use crate::routes::extract::Visitor;

/// Whoever looks at a page.
pub(super) struct Shopper {
    pub(super) visitor: Visitor,
    pub(super) locale: Locale,
    /// The page that is asked for.
    pub(super) here: Uri,
}

impl FromRequestParts<Arc<App>> for Shopper {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        let here = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0).clone();
        Ok(Self { visitor, locale: Locale::of(&here, &parts.headers), here })
    }
}

impl Shopper {
    pub(super) fn texts(&self) -> &'static Texts {
        Texts::of(self.locale.language)
    }

    pub(super) fn frame<'a>(&self, app: &'a App, section: Section, title: String) -> Frame<'a> {
        Frame::new(app, self.locale, &self.here, section, title)
    }

    /// The buyer.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`] when nobody is signed in.
    pub(super) fn buyer(&self, app: &App) -> Result<Context, ApiError> {
        let user_id = self.visitor.user_id.ok_or(ApiError::Unauthenticated)?;
        Ok(Context { user_id, now: app.shop.now(), traceparent: self.visitor.traceparent.clone() })
    }

    /// What a signed-in buyer sees is nobody else's, also not on a machine that others use after him.
    pub(super) fn keeping(&self) -> Keeping {
        if self.visitor.user_id.is_some() { Keeping::Never } else { Keeping::Asked }
    }
}
