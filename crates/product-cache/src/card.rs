//! What is cached, and which of two states wins.

/// The facts of a product that change rarely, as read from the database at one stock version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The product.
    pub product_id: i64,
    /// The merchant's code.
    pub code: String,
    /// What buyers read.
    pub name: String,
    /// `None` when no brand is named.
    pub brand: Option<String>,
    /// Minor units.
    pub price: i64,
    /// Whether nothing was left at `stock_version`.
    pub sold_out: bool,
    /// The stock's version when the card was read, at least 1.
    pub stock_version: i64,
}

/// The least version a card may have, and the state at that version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// Cards below are stale.
    pub version: i64,
    /// Whether nothing was left at `version`.
    pub sold_out: bool,
}

/// What is known of one product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The card, if one is stored; never older than the tombstone.
    pub card: Option<Card>,
    /// The last invalidation that is still remembered.
    pub tombstone: Option<Tombstone>,
}

impl Lookup {
    /// Whether the product is sold out, given `card` from here or from the database: the newer of card and tombstone
    /// tells. A card that was read before the last change cannot show a product as available.
    #[must_use]
    pub fn sold_out(&self, card: &Card) -> bool {
        match self.tombstone {
            Some(tombstone) if tombstone.version > card.stock_version => tombstone.sold_out,
            _ => card.sold_out,
        }
    }
}

/// A product's stock crossed zero, or what buyers read of it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidation {
    /// The product.
    pub product_id: i64,
    /// The stock's version after the change, at least 1.
    pub version: i64,
    /// Whether nothing is left at `version`.
    pub sold_out: bool,
}

#[cfg(test)]
mod tests {
    use super::{Card, Lookup, Tombstone};

    fn sold_out(card: (i64, bool), tombstone: Option<(i64, bool)>) -> bool {
        let card = Card {
            product_id: 1,
            code: String::new(),
            name: String::new(),
            brand: None,
            price: 0,
            sold_out: card.1,
            stock_version: card.0,
        };
        let tombstone = tombstone.map(|(version, sold_out)| Tombstone { version, sold_out });
        Lookup { card: None, tombstone }.sold_out(&card)
    }

    #[test]
    fn the_newer_of_card_and_tombstone_tells() {
        assert!(!sold_out((3, false), None));
        assert!(sold_out((3, true), None));
        assert!(sold_out((3, false), Some((4, true))));
        assert!(!sold_out((3, true), Some((4, false))));
        assert!(!sold_out((5, false), Some((4, true))));
        assert!(sold_out((4, true), Some((4, true))));
    }
}
