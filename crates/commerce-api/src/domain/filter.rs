//! Which products of a list a buyer asks for.

use super::InvalidInput;
use super::product::{check_brand, check_text};

/// The limits of a filter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilterLimits {
    pub(crate) brand_bytes_max: usize,
    pub(crate) search_bytes_max: usize,
}

/// A brand and a part of the name; what is not named does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Exactly this brand.
    pub(crate) brand: Option<String>,
    /// A pattern of `like`.
    pub(crate) pattern: Option<String>,
}

impl Filter {
    /// # Errors
    /// [`InvalidInput::Brand`], [`InvalidInput::Search`].
    pub(crate) fn new(
        brand: Option<String>,
        search: Option<&str>,
        limits: FilterLimits,
    ) -> Result<Self, InvalidInput> {
        brand.iter().try_for_each(|brand| check_brand(brand, limits.brand_bytes_max))?;
        let checked = |text| check_text(text, limits.search_bytes_max, InvalidInput::Search).map(|()| text);
        let pattern = search.map(checked).transpose()?.map(contains_pattern);
        Ok(Self { brand, pattern })
    }

    /// Whether every product matches.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The pattern of `like` that finds `text` itself anywhere, whatever characters it has.
fn contains_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.trim().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::{Filter, FilterLimits};
    use crate::domain::InvalidInput;

    const LIMITS: FilterLimits = FilterLimits { brand_bytes_max: 6, search_bytes_max: 6 };

    #[test]
    fn what_like_would_read_as_a_wildcard_stands_for_itself() {
        for (search, pattern) in [("컵", "%컵%"), (" a b ", "%a b%"), ("5%", "%5\\%%"), ("_\\", "%\\_\\\\%")]
        {
            let filter = Filter::new(None, Some(search), LIMITS).unwrap();
            assert_eq!(filter.pattern.as_deref(), Some(pattern));
            assert!(!filter.is_empty());
        }
        assert!(Filter::new(None, None, LIMITS).unwrap().is_empty());
    }

    #[test]
    fn filters_outside_the_limits_are_refused() {
        let refusal =
            |brand: Option<&str>, search| Filter::new(brand.map(str::to_owned), search, LIMITS).err();
        for text in ["", "  ", "1234567", "a\0", "컵컵컵"] {
            assert_eq!(refusal(Some(text), None), Some(InvalidInput::Brand), "{text:?}");
            assert_eq!(refusal(None, Some(text)), Some(InvalidInput::Search), "{text:?}");
        }
        assert_eq!(refusal(Some("컵컵"), Some("123456")), None);
    }
}
