//! Entries of Redis, which is nobody's secret. An input is a card, or a tombstone behind a `t`.

use product_cache::fuzzing::{read_card, read_tombstone, write_card};
use product_cache::{Lookup, Tombstone};

pub(super) fn run(input: &[u8]) {
    if let Some(entry) = input.strip_prefix(b"t") {
        let Some(Tombstone { version, sold_out }) = read_tombstone(entry) else { return };
        let written = format!("{version} {}", u8::from(sold_out));
        assert_eq!(written.as_bytes(), entry, "there is one way to write a tombstone");
        return;
    }
    let Some(card) = read_card(7, input) else { return };
    let version = version_to_scripts(input);
    assert_eq!(version, Some(card.stock_version), "our scripts see another version");
    let written = write_card(&card).expect("a card is JSON");
    assert_eq!(read_card(7, &written).as_ref(), Some(&card));
    for sold_out in [true, false] {
        let newer = Tombstone { version: i64::MAX, sold_out };
        let told = Lookup { card: None, tombstone: Some(newer) }.sold_out(&card);
        assert!(told == sold_out || card.stock_version == i64::MAX);
    }
}

/// As `fill.lua` and `invalidate.lua` find it.
fn version_to_scripts(entry: &[u8]) -> Option<i64> {
    let digits = entry.strip_prefix(br#"{"stockVersion":"#)?;
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}
