//! Values in the text of a statement: a message of several statements takes no parameters.
//!
//! Numbers are digits, all else is base64, so nothing that comes from outside is ever read as SQL, whatever the server's rules of
//! quoting are.

use std::fmt::{self, Display, Formatter};

use base64::display::Base64Display;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};

/// `smallint[]` or `bigint[]`.
pub(super) struct Numbers<'a, T>(pub(super) &'a [T]);

impl<T: Into<i64> + Copy> Display for Numbers<'_, T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("'{")?;
        for (place, number) in self.0.iter().enumerate() {
            if place > 0 {
                formatter.write_str(",")?;
            }
            Display::fmt(&Into::<i64>::into(*number), formatter)?;
        }
        formatter.write_str("}'")
    }
}

/// `bigint`, or null.
pub(super) struct Number(pub(super) Option<i64>);

impl Display for Number {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            // In quotes, because the lowest number has no literal of its own: the sign is an operator.
            Some(number) => write!(formatter, "'{number}'"),
            None => formatter.write_str("null"),
        }
    }
}

/// `text`, or null.
pub(super) struct Text<'a>(pub(super) Option<&'a str>);

impl Display for Text<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(formatter, "convert_from({}, 'UTF8')", Bytes(text.as_bytes())),
            None => formatter.write_str("null"),
        }
    }
}

/// `bytea`.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Display for Bytes<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let encoded: Base64Display<'_, '_, GeneralPurpose> = Base64Display::new(self.0, &STANDARD);
        write!(formatter, "decode('{encoded}', 'base64')")
    }
}

/// `bytea[]`.
pub(super) struct ByteArrays<'a>(pub(super) &'a [Vec<u8>]);

impl Display for ByteArrays<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("array[")?;
        for (place, bytes) in self.0.iter().enumerate() {
            if place > 0 {
                formatter.write_str(",")?;
            }
            Bytes(bytes).fmt(formatter)?;
        }
        formatter.write_str("]::bytea[]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_holds_no_quote_or_backslash_of_it_reaches_the_statement() {
        for text in ["it's", r"\'; drop schema inbox cascade; --", "$$", "E'\\x27'", "주문", ""] {
            let literal = Text(Some(text)).to_string();
            let inner = literal.strip_prefix("convert_from(decode('").unwrap();
            let inner = inner.strip_suffix("', 'base64'), 'UTF8')").unwrap();
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
            assert!(inner.bytes().all(is_plain), "{literal}");
        }
        assert_eq!(Text(None).to_string(), "null");
    }

    #[test]
    fn numbers_and_bytes_are_written_whole() {
        assert_eq!(
            Numbers(&[i64::MIN, 0, i64::MAX]).to_string(),
            "'{-9223372036854775808,0,9223372036854775807}'"
        );
        assert_eq!(Numbers::<i16>(&[]).to_string(), "'{}'");
        assert_eq!(Number(Some(-1)).to_string(), "'-1'");
        assert_eq!(Number(None).to_string(), "null");
        let arrays = ByteArrays(&[vec![0, 255], Vec::new()]).to_string();
        assert_eq!(arrays, "array[decode('AP8=', 'base64'),decode('', 'base64')]::bytea[]");
        assert_eq!(ByteArrays(&[]).to_string(), "array[]::bytea[]");
    }
}
