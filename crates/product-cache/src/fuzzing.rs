//! How entries of Redis are read and written, for the fuzzer.

use crate::redis_cache::{decode_card, decode_tombstone, encode_card};
use crate::{CacheError, Card, Tombstone};

/// The card that an entry holds; `None` for an entry that is a miss.
#[must_use]
pub fn read_card(product_id: i64, entry: &[u8]) -> Option<Card> {
    decode_card(product_id, entry)
}

/// The tombstone that an entry holds; `None` for an entry that is none.
#[must_use]
pub fn read_tombstone(entry: &[u8]) -> Option<Tombstone> {
    decode_tombstone(entry)
}

/// The entry of a card.
///
/// # Errors
/// [`CacheError::Encode`], a bug of ours.
pub fn write_card(card: &Card) -> Result<Vec<u8>, CacheError> {
    encode_card(card)
}
