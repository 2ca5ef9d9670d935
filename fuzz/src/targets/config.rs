//! A configuration file, from its text to an api that would be started by it. An input is the file; or, behind a colon, lines of a byte that
//! chooses a setting and of its value, since a fuzzer seldom writes two sections that are right.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Seek, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::http::api;
use crate::config::{Config, DEFAULTS, effective, load};

thread_local! {
    /// Written anew for each input.
    static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) };
}

pub(super) fn run(input: &[u8]) {
    FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| NamedTempFile::new().expect("a temporary file"));
        let chosen = input.strip_prefix(b":").and_then(|lines| std::str::from_utf8(lines).ok()).map(settings);
        write(file, chosen.as_ref().map_or(input, |text| text.as_bytes()))
            .expect("a temporary file is written");
        check(file.path());
    });
}

/// The file that sets what the lines choose, each setting once.
fn settings(lines: &str) -> String {
    let defaults: toml::Table = DEFAULTS.parse().expect("the defaults are a file");
    let sections = defaults.iter().filter_map(|(section, settings)| Some((section, settings.as_table()?)));
    let keys: Vec<_> =
        sections.flat_map(|(section, settings)| settings.keys().map(move |key| (section, key))).collect();
    let mut chosen: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for line in lines.lines() {
        let mut value = line.chars();
        let Some(choice) = value.next().and_then(|choice| usize::try_from(u32::from(choice)).ok()) else {
            continue;
        };
        let (section, key) = keys[choice % keys.len()];
        chosen.entry(section).or_default().insert(key, value.as_str());
    }
    let mut file = String::new();
    for (section, settings) in chosen {
        let _ = writeln!(file, "[{section}]");
        for (key, value) in settings {
            let _ = writeln!(file, "{key} = {value}");
        }
    }
    file
}

fn write(file: &mut NamedTempFile, input: &[u8]) -> std::io::Result<()> {
    let file = file.as_file_mut();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(input)
}

fn check(file: &Path) {
    let Ok(config) = load(Some(file)) else { return };
    let shown = effective(Some(file)).expect("what is loaded can be shown");
    assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");
    let _ = (config.relay("fuzz"), config.consumer("fuzz", &["topic"]), config.dead_letters());
    let _ = (config.redrive(), config.retention(), config.dedup_retention(), config.cache_breaker());
    let _ = (config.append_limits(), config.ticker(), config.metrics_url());
    let Config { api: settings, auth, session, rankings, .. } = config;
    // What cannot be used is refused, and not met with a panic.
    let _ = api(settings, auth, session, rankings);
}
