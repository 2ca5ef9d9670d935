//! What dead letters have in common: type, reason, and the error without what differs from record to record.

use uuid::Uuid;

/// Groups dead letters of the same cause.
pub(crate) fn fingerprint(event_type: Option<&str>, reason: &str, error: &str) -> String {
    let cause = format!("{}\n{reason}\n{}", event_type.unwrap_or_default(), normalise(error));
    // A name-based UUID is a digest that is at hand; nothing here needs to resist an attacker.
    Uuid::new_v5(&Uuid::NAMESPACE_OID, cause.as_bytes()).simple().to_string()
}

/// Numbers, UUIDs and quoted text are replaced.
pub(crate) fn normalise(error: &str) -> String {
    let mut normal = String::with_capacity(error.len());
    let mut rest = error;
    while let Some(first) = rest.chars().next() {
        let taken = uuid_length(rest).or_else(|| quoted_length(rest, first)).or_else(|| number_length(rest));
        match taken {
            Some(length) => {
                normal.push('#');
                rest = &rest[length..];
            }
            None => {
                normal.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    normal
}

const UUID_LENGTH: usize = 36;

fn uuid_length(text: &str) -> Option<usize> {
    let candidate = text.get(..UUID_LENGTH)?;
    Uuid::try_parse(candidate).is_ok().then_some(UUID_LENGTH)
}

fn quoted_length(text: &str, first: char) -> Option<usize> {
    let quote = matches!(first, '"' | '\'' | '`').then_some(first)?;
    let closing = text[first.len_utf8()..].find(quote)?;
    Some(closing + 2 * first.len_utf8())
}

fn number_length(text: &str) -> Option<usize> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    (length > 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_from_record_to_record_is_left_out() {
        assert_eq!(normalise("product 4711 of \"Müller\" is 'no'"), "product # of # is #");
        assert_eq!(
            normalise("id 0190b3d2-7e2c-7f3a-8f60-1f2e3d4c5b6a at line 1 column 22"),
            "id # at line # column #"
        );
        assert_eq!(normalise("don't"), "don't");
        assert_eq!(fingerprint(Some("A"), "bad", "at 1"), fingerprint(Some("A"), "bad", "at 22"));
        assert_ne!(fingerprint(Some("A"), "bad", "at 1"), fingerprint(Some("B"), "bad", "at 1"));
    }

    proptest! {
        #[test]
        fn any_text_is_normalised(text in ".*") {
            prop_assert!(!normalise(&text).bytes().any(|byte| byte.is_ascii_digit()));
        }
    }
}
