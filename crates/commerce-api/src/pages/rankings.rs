//! `/rankings`: what is in demand.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};

use super::frame::{Frame, Section, send};
use super::shopper::Shopper;
use super::texts::{Texts, fill};
use super::view::{Choice, Pager, ProductView, seoul_time};
use crate::App;
use crate::domain::ranking::{Period, Window, seoul};
use crate::error::ApiError;
use crate::language::Language;
use crate::routes::envelope::wait;
use crate::routes::extract::RankingSlice;
use crate::routes::rankings::{RankedPage, load_ranking};

#[derive(Template)]
#[template(path = "rankings.html")]
struct RankingsPage<'a> {
    frame: Frame<'a>,
    tabs: Vec<Choice>,
    /// `None` when it cannot be had now.
    ranking: Option<RankingView>,
}

struct RankingView {
    lead: String,
    calculated_at: String,
    places: Vec<PlaceView>,
    pager: Pager,
}

struct PlaceView {
    rank: usize,
    product: ProductView,
}

/// `GET /rankings`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    shopper: Shopper,
    slice: RankingSlice,
) -> Result<Response, ApiError> {
    let t = shopper.texts();
    let RankingSlice { window, page } = slice;
    let (status, wait, ranking) = match load_ranking(&app, window, page).await {
        Ok(ranked) => (StatusCode::OK, None, Some(view(&shopper, window, ranked))),
        // The shop goes on without it, and says so.
        Err(error @ (ApiError::Away(_) | ApiError::Overloaded | ApiError::TimedOut)) => {
            tracing::debug!(%error, "a page is served without its ranking");
            (error.code().status(), wait(&error, app.settings.retry_after), None)
        }
        Err(error) => return Err(error),
    };
    let page = RankingsPage {
        frame: shopper.frame(&app, Section::Rankings, t.rankings.to_owned())?,
        tabs: tabs(t, window.period),
        ranking,
    };
    let mut response = send(status, shopper.locale, shopper.keeping(), &page)?;
    response.headers_mut().extend(wait.map(|wait| (RETRY_AFTER, wait)));
    Ok(response)
}

fn view(shopper: &Shopper, window: Window, ranked: RankedPage) -> RankingView {
    let t = shopper.texts();
    let language = shopper.locale.language;
    let place = |(rank, _, product)| PlaceView { rank, product: ProductView::from(product) };
    RankingView {
        lead: fill(t.rankings_lead, days(window, language)),
        calculated_at: fill(t.calculated_at, seoul_time(ranked.calculated_at, language)),
        places: ranked.items.into_iter().map(place).collect(),
        pager: Pager::new(t, &shopper.here, ranked.page, ranked.has_next),
    }
}

/// The days of a window, or its hour.
fn days(window: Window, language: Language) -> String {
    let (day, hour) = match language {
        Language::English => ("%-d %B", "%-d %B, %H:00"),
        Language::Korean => ("%-m월 %-d일", "%-m월 %-d일 %H시"),
    };
    let text = |time: DateTime<Utc>, format| time.with_timezone(&seoul()).format(format).to_string();
    let last = window.to - TimeDelta::seconds(1);
    match window.period {
        Period::Hourly => text(window.from, hour),
        Period::Daily => text(window.from, day),
        Period::Weekly | Period::Monthly => format!("{} – {}", text(window.from, day), text(last, day)),
    }
}

fn tabs(t: &Texts, chosen: Period) -> Vec<Choice> {
    let text = |period| match period {
        Period::Hourly => t.hourly,
        Period::Daily => t.daily,
        Period::Weekly => t.weekly,
        Period::Monthly => t.monthly,
    };
    let tab = |period: Period| Choice {
        value: period.as_str().to_owned(),
        text: text(period).to_owned(),
        is_chosen: period == chosen,
    };
    Period::ALL.into_iter().map(tab).collect()
}
