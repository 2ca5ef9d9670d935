//! What operators type, and what they are shown of records. An input is the words of a filter for dead letters, a line each; it is also
//! taken as bytes that are shown.

#[path = "../../../crates/commerce/src/cmd/dead_letters/filter.rs"]
#[expect(dead_code, reason = "the part of the binary that needs a database is not called here")]
mod filter;
#[path = "../../../crates/commerce/src/cmd/outbox/text.rs"]
mod outbox_text;
#[path = "../../../crates/commerce/src/cmd/dead_letters/text.rs"]
mod text;

use std::cell::OnceCell;

use chrono::DateTime;
use clap::Parser;
use serde_json::Value;

use crate::cmd::terminal::{is_unsafe, printable};
use crate::config::{Config, load, mask_url};
use filter::{FilterArguments, StatusArguments, check_scope};

/// A filter on a line of its own.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    status: StatusArguments,
}

thread_local! {
    static CONFIG: OnceCell<Config> = const { OnceCell::new() };
}

pub(super) fn run(input: &[u8]) {
    check_shown(input);
    let Ok(input) = std::str::from_utf8(input) else { return };
    let Ok(line) = Line::try_parse_from(input.lines()) else { return };
    let Ok(statuses) = line.status.statuses() else { return };
    CONFIG.with(|config| {
        let config = config.get_or_init(|| load(None).expect("the defaults are a configuration"));
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a moment of 2027");
        let Ok(filter) = line.filter.filter_at(now, config, statuses) else { return };
        assert!(filter.means_everything() == check_scope(&filter, false).is_err());
        assert!(check_scope(&filter, true).is_ok());
    });
}

/// Nothing of a record reaches a terminal as a command.
fn check_shown(bytes: &[u8]) {
    let is_safe = |text: &str| !text.chars().any(is_unsafe);
    let shown = text::show_bytes(bytes);
    assert!(is_safe(&shown) && is_safe(&text::shorten(&shown, 7)));
    let json = text::bytes_json(Some(bytes));
    let safe = text::json_text(&json.to_string());
    assert!(is_safe(&safe) && serde_json::from_str::<Value>(&safe).expect("JSON stays JSON") == json);
    let (_, whole) = outbox_text::text_or_hex(bytes);
    let (first, left) = outbox_text::shortened(&whole, 7);
    assert_eq!(first.chars().count() + left, whole.chars().count());
    assert!(is_safe(&printable(&whole)));
    let _ = mask_url(&whole);
    assert!(text::unmasked(&whole, Some(bytes)).is_some_and(|value| value == bytes || value == b"***"));
    assert!(text::unmasked(&whole, None).is_none());
}
