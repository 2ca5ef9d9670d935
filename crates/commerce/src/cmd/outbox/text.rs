//! Stored bytes for a terminal. Keys and payloads come from outside: what they hold must not steer the terminal.

use std::fmt::Write as _;

use crate::cmd::terminal::is_unsafe;

/// The text with everything escaped that a terminal acts upon or that is not seen.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unsafe(char) {
            printable.extend(char.escape_unicode());
        } else {
            printable.push(char);
        }
    }
    printable
}

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
    fn what_steers_a_terminal_is_escaped_and_all_else_is_left() {
        for (text, shown) in [
            ("상품-7 {\"a\":1}", "상품-7 {\"a\":1}"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("a\r\nb\t\0", "a\\u{d}\\u{a}b\\u{9}\\u{0}"),
            ("\u{202e}dlog\u{200b}\u{9b}", "\\u{202e}dlog\\u{200b}\\u{9b}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

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
