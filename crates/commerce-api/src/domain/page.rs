//! Pages of lists: bounded in size and in depth.

use super::InvalidInput;

/// A slice of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// From 0.
    pub(crate) number: usize,
    pub(crate) size: usize,
}

/// The limits of pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimits {
    pub(crate) size_default: usize,
    pub(crate) size_max: usize,
    /// Rows up to the end of the deepest page.
    pub(crate) depth_max: usize,
}

impl Page {
    /// # Errors
    /// [`InvalidInput::Page`] outside the limits.
    pub(crate) fn new(
        number: Option<usize>,
        size: Option<usize>,
        limits: PageLimits,
    ) -> Result<Self, InvalidInput> {
        let page = Self { number: number.unwrap_or(0), size: size.unwrap_or(limits.size_default) };
        let end = page.number.checked_add(1).and_then(|pages| pages.checked_mul(page.size));
        let allowed =
            (1..=limits.size_max).contains(&page.size) && end.is_some_and(|end| end <= limits.depth_max);
        if allowed { Ok(page) } else { Err(InvalidInput::Page) }
    }

    /// Rows before the page. Cannot overflow: the constructor checked the page's end.
    pub(crate) fn offset(self) -> usize {
        self.number * self.size
    }
}

/// Orders of the product list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    /// The newest first.
    Latest,
    /// The cheapest first, then the oldest.
    PriceAsc,
    /// The dearest first, then the newest.
    PriceDesc,
    /// The most liked first, then the newest.
    LikesDesc,
    /// The most sold (units) first, then the newest.
    SalesDesc,
    /// The most viewed first, then the newest.
    ViewsDesc,
}

impl Sort {
    /// All of them, in the order in which they are offered.
    pub(crate) const ALL: [Self; 6] =
        [Self::Latest, Self::LikesDesc, Self::SalesDesc, Self::ViewsDesc, Self::PriceAsc, Self::PriceDesc];

    /// The value in queries.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::PriceAsc => "price_asc",
            Self::PriceDesc => "price_desc",
            Self::LikesDesc => "likes_desc",
            Self::SalesDesc => "sales_desc",
            Self::ViewsDesc => "views_desc",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, PageLimits, Sort};

    const LIMITS: PageLimits = PageLimits { size_default: 20, size_max: 100, depth_max: 1_000 };

    #[test]
    fn a_sort_is_read_as_it_is_written() {
        for sort in Sort::ALL {
            let value = serde_json::Value::from(sort.as_str());
            assert_eq!(serde_json::from_value::<Sort>(value).unwrap(), sort);
        }
    }

    #[test]
    fn pages_are_bounded_in_size_and_depth() {
        assert_eq!(Page::new(None, None, LIMITS), Ok(Page { number: 0, size: 20 }));
        assert_eq!(Page::new(Some(9), Some(100), LIMITS).map(Page::offset), Ok(900));
        for (number, size) in [(0, 0), (0, 101), (10, 100), (usize::MAX, 1), (usize::MAX, 100)] {
            assert!(Page::new(Some(number), Some(size), LIMITS).is_err(), "{number} {size}");
        }
    }
}
