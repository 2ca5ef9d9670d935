//! What must not reach a terminal as it is, when it comes from outside.

/// Whether a terminal would obey a character, or a reader would not see it: controls, marks of direction, which make a line
/// read other than it is, and characters without a width.
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

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

#[cfg(test)]
mod tests {
    use super::printable;

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
}
