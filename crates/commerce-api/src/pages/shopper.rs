//! Who looks at a page, in which language, from where.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use tokio::time::timeout;

use super::cookies::Purpose;
use super::frame::{Account, Frame, Keeping, Section};
use super::locale::Locale;
use super::sign_in::sign_in_link;
use super::texts::Texts;
use crate::App;
use crate::commands::Context;
use crate::domain::secret::Secret;
use crate::error::ApiError;
use crate::routes::extract::{Visitor, traceparent};
use crate::settings::AuthMode;

/// Whoever looks at a page.
pub(super) struct Shopper {
    pub(super) visitor: Visitor,
    /// Of the session, if there is one.
    pub(super) secret: Option<Secret>,
    /// Why it cannot be told now whether there is one.
    trouble: Option<ApiError>,
    pub(super) locale: Locale,
    /// The page that is asked for.
    pub(super) here: Uri,
}

impl FromRequestParts<Arc<App>> for Shopper {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let here = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0).clone();
        let locale = Locale::of(&here, &parts.headers);
        if app.auth.mode == AuthMode::Gateway {
            let visitor = Visitor::from_request_parts(parts, app).await?;
            return Ok(Self { visitor, secret: None, trouble: None, locale, here });
        }
        let found = timeout(app.auth.visitor_wait, find_session(app, &parts.headers)).await;
        // A public page is open all the same.
        let (found, trouble) = match found.unwrap_or(Err(ApiError::TimedOut)) {
            Ok(found) => (found, None),
            Err(error) => (None, Some(error)),
        };
        let (secret, user_id) = found.unzip();
        if let Some(user_id) = user_id {
            app.rates.admit_caller(user_id)?;
        }
        let visitor = Visitor { user_id, traceparent: traceparent(&parts.headers) };
        Ok(Self { visitor, secret, trouble, locale, here })
    }
}

/// The session whose cookie the browser shows, and its user.
///
/// # Errors
/// When it cannot be found out now.
pub(super) async fn find_session(app: &App, headers: &HeaderMap) -> Result<Option<(Secret, i64)>, ApiError> {
    let Some(secret) = app.storefront.cookies.find(headers, Purpose::Session) else { return Ok(None) };
    Ok(app.sessions.find(&secret).await?.map(|user_id| (secret, user_id)))
}

impl Shopper {
    pub(super) fn texts(&self) -> &'static Texts {
        Texts::of(self.locale.language)
    }

    /// The frame of the page that is asked for.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(super) fn frame<'a>(
        &self,
        app: &'a App,
        section: Section,
        title: String,
    ) -> Result<Frame<'a>, ApiError> {
        let seal = self.secret.as_ref().map(Secret::seal).transpose();
        let seal = seal.map_err(|error| ApiError::Internal(error.into()))?;
        let account = match (self.visitor.user_id, &self.trouble, app.auth.mode) {
            (Some(_), _, _) => Account::SignedIn { seal },
            (None, Some(_), _) => Account::Unknown,
            (None, None, AuthMode::Gateway) => Account::Stranger { sign_in: None },
            (None, None, AuthMode::Token) => Account::Stranger { sign_in: Some(sign_in_link(&self.here)) },
        };
        let mut frame = Frame::new(app, self.locale, &self.here, section, title);
        frame.account = account;
        Ok(frame)
    }

    /// The buyer.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`] when nobody is signed in; another one when it cannot be told now.
    pub(super) fn buyer(&mut self, app: &App) -> Result<Context, ApiError> {
        let nobody = || self.trouble.take().unwrap_or(ApiError::Unauthenticated);
        let user_id = self.visitor.user_id.ok_or_else(nobody)?;
        Ok(Context { user_id, now: app.shop.now(), traceparent: self.visitor.traceparent.clone() })
    }

    /// What a signed-in buyer sees is nobody else's, also not on a machine that others use after him.
    pub(super) fn keeping(&self) -> Keeping {
        if self.visitor.user_id.is_some() { Keeping::Never } else { Keeping::Asked }
    }
}
