//! How things look: money, counts, times, products.

use axum::http::Uri;
use chrono::{DateTime, SecondsFormat, Utc};

use super::picture::Picture;
use super::texts::{Texts, fill};
use crate::domain::page::Page;
use crate::domain::ranking::seoul;
use crate::language::Language;
use crate::routes::products::ProductResponse;

/// Digits between two separators.
const GROUP: usize = 3;
/// Parameters of a page that its neighbours do not inherit.
const OWN_PARAMETERS: [&str; 3] = ["page", "lang", "done"];

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(GROUP) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An amount: won have no minor unit, so the minor unit is one won.
pub(super) fn won(amount: i64) -> String {
    let text = grouped(amount);
    match text.strip_prefix('-') {
        Some(text) => format!("-₩{text}"),
        None => format!("₩{text}"),
    }
}

/// A time of Seoul, to the minute.
pub(super) fn seoul_time(time: DateTime<Utc>, language: Language) -> String {
    let format = match language {
        Language::English => "%-d %b %Y, %H:%M KST",
        Language::Korean => "%Y년 %-m월 %-d일 %H:%M",
    };
    time.with_timezone(&seoul()).format(format).to_string()
}

/// The same time for machines.
pub(super) fn machine_time(time: DateTime<Utc>) -> String {
    time.with_timezone(&seoul()).to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// A product as pages show it.
pub(super) struct ProductView {
    pub(super) id: i64,
    pub(super) code: String,
    pub(super) name: String,
    pub(super) brand: Option<String>,
    pub(super) price: String,
    pub(super) is_sold_out: bool,
    /// What cannot be had is `None`, and is said to be so.
    pub(super) likes: Option<String>,
    pub(super) sold: Option<String>,
    pub(super) views: Option<String>,
    /// The counts are the last that are known.
    pub(super) is_stale: bool,
    pub(super) picture: Picture,
}

impl From<ProductResponse> for ProductView {
    fn from(product: ProductResponse) -> Self {
        Self {
            id: product.product_id,
            picture: Picture::new(product.product_id, product.brand.as_deref()),
            code: product.code,
            name: product.name,
            brand: product.brand,
            price: won(product.price),
            is_sold_out: product.sold_out,
            is_stale: product.stale,
            likes: product.like_count.map(grouped),
            sold: product.sales_count.map(grouped),
            views: product.view_count.map(grouped),
        }
    }
}

impl ProductView {
    pub(super) fn lacks_counts(&self) -> bool {
        self.likes.is_none() || self.sold.is_none() || self.views.is_none()
    }
}

/// A choice among others: an option, a tab.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) text: String,
    pub(super) is_chosen: bool,
}

/// Links to the pages before and after one.
pub(super) struct Pager {
    pub(super) label: String,
    pub(super) previous: Option<String>,
    pub(super) next: Option<String>,
}

impl Pager {
    pub(super) fn new(t: &Texts, here: &Uri, page: Page, has_next: bool) -> Self {
        let previous = page.number.checked_sub(1);
        Self {
            label: fill(t.page_number, page.number + 1),
            previous: previous.map(|number| page_link(here, number)),
            next: has_next.then(|| page_link(here, page.number + 1)),
        }
    }
}

fn page_link(here: &Uri, number: usize) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let parameters = form_urlencoded::parse(here.query().unwrap_or_default().as_bytes());
    query.extend_pairs(
        parameters.filter(|(name, value)| !value.is_empty() && !OWN_PARAMETERS.contains(&name.as_ref())),
    );
    if number > 0 {
        query.append_pair("page", &number.to_string());
    }
    let query = query.finish();
    if query.is_empty() { here.path().to_owned() } else { format!("{}?{query}", here.path()) }
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::{grouped, machine_time, page_link, seoul_time, won};
    use crate::language::Language;

    #[test]
    fn amounts_are_grouped_by_thousands() {
        let numbers = [0, 7, 999, 1_000, 12_000, 1_234_567, -12_000];
        assert_eq!(numbers.map(grouped), ["0", "7", "999", "1,000", "12,000", "1,234,567", "-12,000"]);
        assert_eq!([12_000, -1].map(won), ["₩12,000", "-₩1"]);
        assert_eq!(grouped(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn times_are_those_of_seoul() {
        let time = "2026-03-09T15:04:05Z".parse().unwrap();
        assert_eq!(seoul_time(time, Language::English), "10 Mar 2026, 00:04 KST");
        assert_eq!(seoul_time(time, Language::Korean), "2026년 3월 10일 00:04");
        assert_eq!(machine_time(time), "2026-03-10T00:04:05+09:00");
    }

    #[test]
    fn neighbours_of_a_page_keep_what_was_asked_for() {
        let link = |here: &str, number| page_link(&here.parse::<Uri>().unwrap(), number);
        assert_eq!(link("/?q=a+b&brand=&sort=latest&page=3&lang=ko", 4), "/?q=a+b&sort=latest&page=4");
        assert_eq!(link("/orders?page=1&done=x", 0), "/orders");
    }
}
