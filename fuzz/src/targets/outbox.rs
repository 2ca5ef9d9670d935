//! Headers as `outbox.event` holds them, in a format of our own.

use outbox::headers::{decode_into, encode};

pub(super) fn run(input: &[u8]) {
    let mut headers = Vec::new();
    if let Err(unreadable) = decode_into(input, &mut headers) {
        assert!(unreadable.at < input.len());
        return;
    }
    let headers: Vec<_> =
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let written = encode(&headers).expect("what was read fits").unwrap_or_default();
    assert_eq!(written, input, "there is one way to write headers");
}
