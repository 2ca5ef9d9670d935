//! What must not reach a terminal as it is, when it comes from outside.

/// Whether a terminal would obey a character, or a reader would not see it: controls, marks of direction, which make a line
/// read other than it is, and characters that show nothing (Unicode's `Default_Ignorable_Code_Point`, but not the selectors of
/// variants, which belong to emoji).
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
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
            ("\u{61c}a\u{ad}\u{3164}\u{e0041}", "\\u{61c}a\\u{ad}\\u{3164}\\u{e0041}"),
            ("좋아요 ❤\u{fe0f}", "좋아요 ❤\u{fe0f}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
