//! Tokens: what their text looks like, and what they may be used for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::secret::{SECRET_BYTES, looks_like_secret};

/// In front of every token, so that people and scanners for leaked secrets see what it is. A secret in base64url follows.
const PREFIX: &str = "ct_";
/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What a buyer does for himself.
    Buyer,
    /// What the merchant does.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 2] = [Self::Buyer, Self::Admin];

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Admin => "admin",
        }
    }
}

/// The text of a token: who has it, is its user. It is shown once, and neither stored nor logged.
pub struct TokenText(String);

impl TokenText {
    pub(crate) fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)))
    }

    /// For the one time that it is shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// By what a token is found without being known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenDigest(pub(crate) [u8; 32]);

impl TokenDigest {
    /// The digest of a token's text; `None` when no token looks like it.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let looks_like_one = text.strip_prefix(PREFIX).is_some_and(looks_like_secret);
        looks_like_one.then(|| Self(Sha256::digest(text).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{TokenDigest, TokenText};

    #[test]
    fn a_token_is_recognised_by_its_shape_and_found_by_its_digest() {
        let text = TokenText::new(&[0xfb; 32]);
        assert_eq!(text.reveal(), "ct_-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s");
        let hex: String =
            TokenDigest::of(text.reveal()).unwrap().0.iter().map(|byte| format!("{byte:02x}")).collect();
        // As `sha256sum` tells it.
        assert_eq!(hex, "e1b0234a5172c1e6ebfc6e8396d27dcf1b844bd39675f587b9660051043be765");
    }

    #[test]
    fn what_does_not_look_like_a_token_has_no_digest() {
        let text = TokenText::new(&[1; 32]);
        let text = text.reveal();
        for wrong in [
            "",
            "ct_",
            &text[..text.len() - 1],
            &format!("{text}A"),
            &format!("{text}="),
            &format!(" {}", &text[1..]),
            &text.replacen("ct_", "CT_", 1),
            &text.replacen("ct_", "gt_", 1),
            &format!("{}+", &text[..text.len() - 1]),
            &format!("{}\0", &text[..text.len() - 1]),
            // As many bytes, one character less.
            &format!("{}é", &text[..text.len() - 2]),
        ] {
            assert!(TokenDigest::of(wrong).is_none(), "{wrong:?}");
        }
        assert!(TokenDigest::of(text).is_some());
    }
}
