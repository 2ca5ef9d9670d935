//! In which language a page is: what `?lang=` says now, what it said before (a cookie), what the browser asks for.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue, Uri};

use crate::language::Language;

/// The cookie that remembers the choice, and the parameter that makes it.
const NAME: &str = "lang";
/// A year.
const REMEMBERED_SECONDS: u32 = 31_536_000;

/// The language of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Locale {
    pub(crate) language: Language,
    /// Whether this request chose it.
    is_chosen: bool,
}

impl Locale {
    /// What is not a language of ours is passed over.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let query = uri.query().unwrap_or_default();
        let chosen = form_urlencoded::parse(query.as_bytes())
            .find_map(|(name, value)| (name == NAME).then(|| Language::tagged(&value)).flatten());
        let remembered = || cookie(headers, NAME).and_then(Language::tagged);
        let language = chosen.or_else(remembered).unwrap_or_else(|| Language::of(headers));
        Self { language, is_chosen: chosen.is_some() }
    }

    /// `Set-Cookie` for a choice. It holds nothing but two letters, so it needs no protection.
    pub(super) fn cookie(self) -> Option<HeaderValue> {
        let tag = self.language.tag();
        let text = format!("{NAME}={tag}; Path=/; Max-Age={REMEMBERED_SECONDS}; SameSite=Lax");
        if self.is_chosen { HeaderValue::from_str(&text).ok() } else { None }
    }
}

/// Where the same page is in `language`.
pub(super) fn switched(here: &Uri, language: Language) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let parameters = form_urlencoded::parse(here.query().unwrap_or_default().as_bytes());
    query.extend_pairs(parameters.filter(|(name, _)| name != NAME));
    query.append_pair(NAME, language.tag());
    format!("{}?{}", here.path(), query.finish())
}

/// The cookie of this name.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use axum::http::header::{ACCEPT_LANGUAGE, COOKIE};
    use axum::http::{HeaderMap, HeaderValue, Uri};

    use super::{Locale, switched};
    use crate::language::Language::{English, Korean};

    #[test]
    fn a_choice_wins_over_what_is_remembered_and_that_over_what_the_browser_asks_for() {
        for (uri, cookie, accepted, language, is_chosen) in [
            ("/", "", "", English, false),
            ("/", "", "ko", Korean, false),
            ("/", "a=b; lang=ko", "en", Korean, false),
            ("/?lang=en", "lang=ko", "ko", English, true),
            ("/?q=lang&lang=ko", "", "", Korean, true),
            ("/?lang=fr", "lang=xx", "ko", Korean, false),
            ("/?lang=", "langs=ko; xlang=ko", "", English, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(cookie));
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(accepted));
            let locale = Locale::of(&uri.parse::<Uri>().unwrap(), &headers);
            assert_eq!(locale, Locale { language, is_chosen }, "{uri} {cookie} {accepted}");
            assert_eq!(locale.cookie().is_some(), is_chosen);
        }
    }

    #[test]
    fn the_switch_stays_on_the_page() {
        let switched = |here: &str| switched(&here.parse::<Uri>().unwrap(), Korean);
        assert_eq!(switched("/orders/7"), "/orders/7?lang=ko");
        assert_eq!(switched("/?q=a%26b&lang=en&page=2"), "/?q=a%26b&page=2&lang=ko");
    }
}
