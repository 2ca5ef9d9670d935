//! Products: codes, names, prices, stock.

use std::collections::HashSet;

use commerce_events::UNIT_PRICE_MAX;

use super::InvalidInput;

/// Bytes of a merchant's code.
const CODE_BYTES_MAX: usize = 100;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 500;
/// Units in stock: what orders give back on top of it stays far from overflowing.
const STOCK_MAX: i64 = 1_000_000_000_000;

/// A product to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewProduct {
    /// The merchant's code, distinct by exact bytes.
    pub(crate) code: String,
    /// What buyers read.
    pub(crate) name: String,
    /// Minor units.
    pub(crate) price: i64,
    /// Units in stock.
    pub(crate) stock: i64,
}

/// # Errors
/// The first rule that a product breaks.
pub(crate) fn check_new_products(products: &[NewProduct], products_max: usize) -> Result<(), InvalidInput> {
    if products.is_empty() {
        return Err(InvalidInput::NoProducts);
    }
    if products.len() > products_max {
        return Err(InvalidInput::TooManyProducts);
    }
    let mut codes = HashSet::with_capacity(products.len());
    for product in products {
        check_text(&product.code, CODE_BYTES_MAX, InvalidInput::Code)?;
        check_text(&product.name, NAME_BYTES_MAX, InvalidInput::Name)?;
        if !(0..=UNIT_PRICE_MAX).contains(&product.price) {
            return Err(InvalidInput::Price);
        }
        check_stock(product.stock)?;
        if !codes.insert(product.code.as_str()) {
            return Err(InvalidInput::DuplicateCode);
        }
    }
    Ok(())
}

/// # Errors
/// [`InvalidInput::Stock`] outside `0..=STOCK_MAX`.
pub(crate) fn check_stock(quantity: i64) -> Result<(), InvalidInput> {
    if (0..=STOCK_MAX).contains(&quantity) { Ok(()) } else { Err(InvalidInput::Stock) }
}

fn check_text(text: &str, bytes_max: usize, refusal: InvalidInput) -> Result<(), InvalidInput> {
    let valid = !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
    if valid { Ok(()) } else { Err(refusal) }
}

#[cfg(test)]
mod tests {
    use super::{InvalidInput, NewProduct, STOCK_MAX, UNIT_PRICE_MAX, check_new_products};

    fn product(code: &str) -> NewProduct {
        NewProduct { code: code.to_owned(), name: "컵".to_owned(), price: UNIT_PRICE_MAX, stock: STOCK_MAX }
    }

    #[test]
    fn products_at_the_limits_are_accepted() {
        let name = "n".repeat(500);
        let edge = NewProduct { name, price: 0, stock: 0, ..product(&"c".repeat(100)) };
        assert_eq!(check_new_products(&[edge, product("<b>'; drop table--")], 2), Ok(()));
    }

    #[test]
    fn products_beyond_the_limits_are_refused() {
        for (products, reason) in [
            (vec![], InvalidInput::NoProducts),
            (vec![product("a"), product("b"), product("c")], InvalidInput::TooManyProducts),
            (vec![product("a"), product("a")], InvalidInput::DuplicateCode),
            (vec![product(" ")], InvalidInput::Code),
            (vec![product("a\0")], InvalidInput::Code),
            (vec![product(&"c".repeat(101))], InvalidInput::Code),
            (vec![NewProduct { name: String::new(), ..product("a") }], InvalidInput::Name),
            (vec![NewProduct { name: "a\u{0}b".to_owned(), ..product("a") }], InvalidInput::Name),
            (vec![NewProduct { price: -1, ..product("a") }], InvalidInput::Price),
            (vec![NewProduct { price: UNIT_PRICE_MAX + 1, ..product("a") }], InvalidInput::Price),
            (vec![NewProduct { stock: -1, ..product("a") }], InvalidInput::Stock),
            (vec![NewProduct { stock: i64::MAX, ..product("a") }], InvalidInput::Stock),
        ] {
            assert_eq!(check_new_products(&products, 2), Err(reason));
        }
    }
}
