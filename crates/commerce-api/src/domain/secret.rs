//! Secrets that a browser keeps for us in a cookie, and what a form shows to prove that it knows one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

/// Random bytes of a secret.
pub(crate) const SECRET_BYTES: usize = 32;
/// Characters of its text: base64url without padding.
const TEXT_CHARS: usize = (SECRET_BYTES * 8).div_ceil(6);
/// Random bytes of a seal.
const NONCE_BYTES: usize = 16;

/// Whether a text can be the base64url of a secret's bytes.
pub(super) fn looks_like_secret(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == TEXT_CHARS && text.bytes().all(is_base64url)
}

/// A secret's text: who has it, is its browser. It is neither stored nor logged.
#[derive(Clone)]
pub(crate) struct Secret(String);

/// By what a secret is found without being known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SecretDigest(pub(crate) [u8; 32]);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What a browser shows; `None` when no secret looks like it.
    pub(crate) fn shown(text: &str) -> Option<Self> {
        looks_like_secret(text).then(|| Self(text.to_owned()))
    }

    /// For the cookie.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn digest(&self) -> SecretDigest {
        SecretDigest(Sha256::digest(&self.0).into())
    }

    /// A seal for a form. Each is another one, so that compressed pages do not tell it bit by bit.
    ///
    /// # Errors
    /// As [`Self::random`].
    pub(crate) fn seal(&self) -> Result<String, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let code = self.code(&nonce).finalize().into_bytes();
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &code[..]].concat()))
    }

    /// Whether this secret made the seal.
    pub(crate) fn has_sealed(&self, seal: &str) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(seal) else { return false };
        let Some((nonce, code)) = bytes.split_at_checked(NONCE_BYTES) else { return false };
        // In constant time.
        self.code(nonce).verify_slice(code).is_ok()
    }

    fn code(&self, nonce: &[u8]) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("any length is a key");
        code.update(nonce);
        code
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn only_the_secret_that_made_a_seal_knows_it() {
        let (secret, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(secret.reveal(), other.reveal());
        let seal = secret.seal().unwrap();
        assert!(secret.has_sealed(&seal) && !other.has_sealed(&seal));
        assert!(Secret::shown(secret.reveal()).unwrap().has_sealed(&seal));
        assert_ne!(seal, secret.seal().unwrap(), "no two are alike");
        for wrong in ["", "AAAA", &seal[1..], &seal[..seal.len() - 2], &format!("{seal}AA"), "\u{e9}"] {
            assert!(!secret.has_sealed(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_look_like_a_secret_is_none() {
        let text = "A".repeat(43);
        assert!(Secret::shown(&text).is_some());
        for wrong in
            ["", &text[1..], &format!("{text}A"), &format!("{}+", &text[1..]), &format!("{}é", &text[2..])]
        {
            assert!(Secret::shown(wrong).is_none(), "{wrong}");
        }
    }
}
