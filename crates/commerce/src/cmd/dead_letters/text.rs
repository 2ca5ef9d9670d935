//! Foreign text and bytes, so that they can be shown: nothing of them reaches a terminal as a command.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::cmd::terminal::{is_unsafe, printable};

/// Headers whose names contain one of these are shown without their value.
const SECRET_NAMES: [&str; 7] =
    ["authorization", "cookie", "token", "secret", "password", "api-key", "credential"];
/// Stands for a secret.
const MASK: &str = "***";

/// At most so many characters, with a mark where it was cut.
pub(super) fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Bytes for a terminal: as text if they are text.
pub(super) fn show_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => printable(text),
        Err(_) => format!("{} (not UTF-8)", bytes.escape_ascii()),
    }
}

/// Bytes for a program: `{"utf8": …}`, `{"base64": …}`, or null.
pub(super) fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!({"utf8": text}),
        Some((bytes, Err(_))) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

/// A header's value, unless its name says that it is a secret.
pub(super) fn unmasked<'a>(name: &str, value: Option<&'a [u8]>) -> Option<&'a [u8]> {
    let name = name.to_lowercase();
    let is_secret = SECRET_NAMES.iter().any(|secret| name.contains(secret));
    if is_secret { value.map(|_| MASK.as_bytes()) } else { value }
}

/// JSON in which no character is left that a terminal would obey; the same value to a parser.
pub(super) fn json_text(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        // Line breaks stand between values only; all that are unsafe have four hexadecimal digits.
        if character != '\n' && is_unsafe(character) {
            safe.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A screen is cleared, a line is overwritten, a name is turned around.
    const HOSTILE: &str = "a\u{1b}[2Jb\rc\u{9b}d\u{202e}e\0\n";

    #[test]
    fn no_command_reaches_the_terminal() {
        assert_eq!(show_bytes(HOSTILE.as_bytes()), r"a\u{1b}[2Jb\u{d}c\u{9b}d\u{202e}e\u{0}\u{a}");
        assert_eq!(show_bytes("상품 'ü' \\ \"q\"".as_bytes()), "상품 'ü' \\ \"q\"");
        assert_eq!(show_bytes(b"\x1b\xff"), r"\x1b\xff (not UTF-8)");
    }

    #[test]
    fn json_stays_the_same_value() -> anyhow::Result<()> {
        let value = json!({"error": HOSTILE, "name": "상품"});
        let text = json_text(&serde_json::to_string_pretty(&value)?);
        assert!(text.chars().all(|character| character == '\n' || !is_unsafe(character)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text)?, value);
        Ok(())
    }

    #[test]
    fn secrets_in_headers_are_masked() {
        for name in ["Authorization", "x-api-key", "Set-Cookie", "x-session-token"] {
            assert_eq!(unmasked(name, Some(b"s3cret")), Some(&b"***"[..]), "{name}");
        }
        assert_eq!(unmasked("ce_id", Some(b"1")), Some(&b"1"[..]));
        assert_eq!(unmasked("authorization", None), None);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!((shorten("üüü", 2).as_str(), shorten("üü", 2).as_str()), ("üü…", "üü"));
    }
}
