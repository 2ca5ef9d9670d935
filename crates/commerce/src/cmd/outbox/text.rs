//! Stored bytes as text.

use std::fmt::Write as _;

/// The bytes as text, or as hexadecimal digits if they are none; and which of both.
pub(crate) fn text_or_hex(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => {
            let mut hex = String::with_capacity(2 * bytes.len());
            for byte in bytes {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
            }
            ("hex", hex)
        }
    }
}

/// The first `chars_max` characters, and how many were left out.
pub(crate) fn shortened(text: &str, chars_max: usize) -> (&str, usize) {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => (&text[..end], text[end..].chars().count()),
        None => (text, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_digits() {
        assert_eq!(text_or_hex("뜻".as_bytes()), ("text", "뜻".to_owned()));
        assert_eq!(text_or_hex(&[0xff, 0x00, 0x0a]), ("hex", "ff000a".to_owned()));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("상품", 1), ("상", 1));
        assert_eq!(shortened("상품", 2), ("상품", 0));
    }
}
