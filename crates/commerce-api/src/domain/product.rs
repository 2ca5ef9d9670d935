//! Products: codes, names, brands, prices, stock.

use std::collections::HashSet;

use super::InvalidInput;

/// The limits of what a merchant may say of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProductLimits {
    pub(crate) code_bytes_max: usize,
    pub(crate) name_bytes_max: usize,
    pub(crate) brand_bytes_max: usize,
    /// Minor units.
    pub(crate) price_max: i64,
    /// Units in stock: what orders give back on top of it stays far from overflowing.
    pub(crate) stock_max: i64,
}

/// What buyers read of a product, and the merchant may change.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct ProductFacts {
    pub(crate) name: String,
    /// `None` when no brand is named.
    pub(crate) brand: Option<String>,
    /// Minor units.
    pub(crate) price: i64,
}

/// A product to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewProduct {
    /// The merchant's code, distinct by exact bytes.
    pub(crate) code: String,
    pub(crate) facts: ProductFacts,
    /// Units in stock.
    pub(crate) stock: i64,
}

/// What a merchant changes of a product; `None` leaves a fact as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FactsChange {
    pub(crate) name: Option<String>,
    /// `Some(None)` takes the brand away.
    pub(crate) brand: Option<Option<String>>,
    pub(crate) price: Option<i64>,
}

impl FactsChange {
    /// # Errors
    /// The first rule that the change breaks.
    pub(crate) fn check(&self, limits: &ProductLimits) -> Result<(), InvalidInput> {
        if *self == Self::default() {
            return Err(InvalidInput::NothingToChange);
        }
        self.name.as_deref().map_or(Ok(()), |name| check_name(name, limits))?;
        self.brand.iter().flatten().try_for_each(|brand| check_brand(brand, limits.brand_bytes_max))?;
        self.price.map_or(Ok(()), |price| check_price(price, limits))
    }

    /// The facts after the change.
    pub(crate) fn apply(&self, facts: &ProductFacts) -> ProductFacts {
        ProductFacts {
            name: self.name.as_ref().unwrap_or(&facts.name).clone(),
            brand: self.brand.as_ref().unwrap_or(&facts.brand).clone(),
            price: self.price.unwrap_or(facts.price),
        }
    }
}

/// # Errors
/// The first rule that a product breaks.
pub(crate) fn check_new_products(
    products: &[NewProduct],
    products_max: usize,
    limits: &ProductLimits,
) -> Result<(), InvalidInput> {
    if products.is_empty() {
        return Err(InvalidInput::NoProducts);
    }
    if products.len() > products_max {
        return Err(InvalidInput::TooManyProducts);
    }
    let mut codes = HashSet::with_capacity(products.len());
    for product in products {
        check_text(&product.code, limits.code_bytes_max, InvalidInput::Code)?;
        check_name(&product.facts.name, limits)?;
        product.facts.brand.iter().try_for_each(|brand| check_brand(brand, limits.brand_bytes_max))?;
        check_price(product.facts.price, limits)?;
        check_stock(product.stock, limits.stock_max)?;
        if !codes.insert(product.code.as_str()) {
            return Err(InvalidInput::DuplicateCode);
        }
    }
    Ok(())
}

/// # Errors
/// [`InvalidInput::Stock`] outside `0..=stock_max`.
pub(crate) fn check_stock(quantity: i64, stock_max: i64) -> Result<(), InvalidInput> {
    if (0..=stock_max).contains(&quantity) { Ok(()) } else { Err(InvalidInput::Stock) }
}

/// # Errors
/// [`InvalidInput::Brand`] when it is empty, too long, or holds control characters.
pub(crate) fn check_brand(brand: &str, bytes_max: usize) -> Result<(), InvalidInput> {
    check_text(brand, bytes_max, InvalidInput::Brand)
}

/// # Errors
/// `refusal` when the text is empty, too long, or holds control characters.
pub(crate) fn check_text(text: &str, bytes_max: usize, refusal: InvalidInput) -> Result<(), InvalidInput> {
    let valid = !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
    if valid { Ok(()) } else { Err(refusal) }
}

fn check_name(name: &str, limits: &ProductLimits) -> Result<(), InvalidInput> {
    check_text(name, limits.name_bytes_max, InvalidInput::Name)
}

fn check_price(price: i64, limits: &ProductLimits) -> Result<(), InvalidInput> {
    if (0..=limits.price_max).contains(&price) { Ok(()) } else { Err(InvalidInput::Price) }
}

#[cfg(test)]
mod tests {
    use super::{FactsChange, InvalidInput, NewProduct, ProductFacts, ProductLimits, check_new_products};

    const LIMITS: ProductLimits = ProductLimits {
        code_bytes_max: 100,
        name_bytes_max: 500,
        brand_bytes_max: 50,
        price_max: 1_000,
        stock_max: 1_000_000,
    };

    fn facts() -> ProductFacts {
        ProductFacts { name: "컵".to_owned(), brand: None, price: LIMITS.price_max }
    }

    fn product(code: &str) -> NewProduct {
        NewProduct { code: code.to_owned(), facts: facts(), stock: LIMITS.stock_max }
    }

    fn with(facts: ProductFacts) -> Vec<NewProduct> {
        vec![NewProduct { facts, ..product("a") }]
    }

    #[test]
    fn products_at_the_limits_are_accepted() {
        let facts = ProductFacts { name: "n".repeat(500), brand: Some("b".repeat(50)), price: 0 };
        let edge = NewProduct { code: "c".repeat(100), facts, stock: 0 };
        assert_eq!(check_new_products(&[edge, product("<b>'; drop table--")], 2, &LIMITS), Ok(()));
    }

    #[test]
    fn products_beyond_the_limits_are_refused() {
        let named = |name: &str| with(ProductFacts { name: name.to_owned(), ..facts() });
        let branded = |brand: &str| with(ProductFacts { brand: Some(brand.to_owned()), ..facts() });
        for (products, reason) in [
            (vec![], InvalidInput::NoProducts),
            (vec![product("a"), product("b"), product("c")], InvalidInput::TooManyProducts),
            (vec![product("a"), product("a")], InvalidInput::DuplicateCode),
            (vec![product(" ")], InvalidInput::Code),
            (vec![product("a\0")], InvalidInput::Code),
            (vec![product(&"c".repeat(101))], InvalidInput::Code),
            (named(""), InvalidInput::Name),
            (named("a\u{0}b"), InvalidInput::Name),
            (named(&"n".repeat(501)), InvalidInput::Name),
            (branded(""), InvalidInput::Brand),
            (branded("\n"), InvalidInput::Brand),
            (branded(&"b".repeat(51)), InvalidInput::Brand),
            (with(ProductFacts { price: -1, ..facts() }), InvalidInput::Price),
            (with(ProductFacts { price: 1_001, ..facts() }), InvalidInput::Price),
            (vec![NewProduct { stock: -1, ..product("a") }], InvalidInput::Stock),
            (vec![NewProduct { stock: i64::MAX, ..product("a") }], InvalidInput::Stock),
        ] {
            assert_eq!(check_new_products(&products, 2, &LIMITS), Err(reason), "{products:?}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before = ProductFacts { brand: Some("b".to_owned()), ..facts() };
        let price = FactsChange { price: Some(7), ..FactsChange::default() };
        assert_eq!(price.check(&LIMITS), Ok(()));
        assert_eq!(price.apply(&before), ProductFacts { price: 7, ..before.clone() });
        let brandless = FactsChange { brand: Some(None), ..FactsChange::default() };
        assert_eq!(brandless.check(&LIMITS), Ok(()));
        assert_eq!(brandless.apply(&before), ProductFacts { brand: None, ..before });
        assert_eq!(FactsChange::default().check(&LIMITS), Err(InvalidInput::NothingToChange));
        for (change, reason) in [
            (FactsChange { name: Some(" ".to_owned()), ..price.clone() }, InvalidInput::Name),
            (FactsChange { brand: Some(Some(String::new())), ..price.clone() }, InvalidInput::Brand),
            (FactsChange { price: Some(-1), ..price }, InvalidInput::Price),
        ] {
            assert_eq!(change.check(&LIMITS), Err(reason));
        }
    }
}
