//! What must not reach a terminal as it is, when it comes from outside.

/// Whether a terminal would obey a character, or a reader would not see it: controls, marks of direction, which make a line
/// read other than it is, and characters without a width.
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
