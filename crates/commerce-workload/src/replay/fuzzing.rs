//! A recorded file read as a replay reads it, and applied nowhere, for the fuzzer.

use std::io::{Cursor, Read};

use commerce_events::{QUANTITY_MAX, UNIT_PRICE_MAX};
use tokio::sync::mpsc;

use super::entry::{Entry, InvoiceLine};
use super::reader::{Chunk, Reading};
use super::source::decompressed;
use super::{CHUNK_LINES_MAX, Format};

/// More of a file is not read: a few bytes can stand for gigabytes when they are compressed.
const BYTES_MAX: u64 = 1 << 20;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileReading {
    /// Lines, the header not included.
    pub rows: u64,
    /// Of these, the ones that have an effect.
    pub entries: u64,
    /// Number of the last line.
    pub last_line: u64,
}

/// Reads a file, compressed or not, from the line behind `lines_done` on.
///
/// # Errors
/// What is no file of the format, or breaks off.
///
/// # Panics
/// When a line is read as what the shop would refuse, or is lost.
pub fn read_file(format: Format, file: &[u8], lines_done: u64) -> anyhow::Result<FileReading> {
    let content = decompressed(Cursor::new(file.to_vec()))?.take(BYTES_MAX);
    let reading =
        Reading { format, digest: "0123456789abcdef".to_owned(), lines_done, chunk_lines: CHUNK_LINES_MAX };
    // Room for every line of a file of line breaks.
    let (sender, mut chunks) = mpsc::channel(1_024);
    reading.run(content, None, &sender)?;
    drop(sender);
    let mut found = FileReading { rows: 0, entries: 0, last_line: 0 };
    let mut is_over = false;
    while let Ok(chunk) = chunks.try_recv() {
        assert!(!is_over, "nothing comes after the last chunk");
        is_over = chunk.is_last;
        check(&chunk);
        let entries = u64::try_from(chunk.entries.len())?;
        let others: u64 = chunk.tally.ignored.values().chain(chunk.tally.rejected.values()).sum();
        assert_eq!(chunk.tally.rows, entries + others, "every line has one outcome");
        found.rows += chunk.tally.rows;
        found.entries += entries;
        found.last_line = chunk.last_line;
    }
    assert!(is_over, "the file has an end");
    Ok(found)
}

fn check(chunk: &Chunk) {
    let mut amount = 0_i64;
    for entry in &chunk.entries {
        match entry {
            Entry::Line(line) => {
                check_line(line);
                amount += line.quantity * line.unit_price;
            }
            Entry::View(visit) | Entry::Like(visit) => {
                assert!(visit.user_id > 0);
                check_name(&visit.code);
            }
            Entry::Ignored(kind) => unreachable!("what is ignored is counted only: {kind}"),
        }
    }
    assert!(amount >= 0);
}

fn check_line(line: &InvoiceLine) {
    assert!((1..=QUANTITY_MAX).contains(&line.quantity), "{line:?}");
    assert!((0..=UNIT_PRICE_MAX).contains(&line.unit_price), "{line:?}");
    assert!(line.user_id.is_none_or(|user| user > 0), "{line:?}");
    [&line.invoice, &line.code, &line.name].into_iter().for_each(|text| check_name(text));
}

/// The database takes it, and an index has room for it.
fn check_name(text: &str) {
    assert!(
        !text.trim().is_empty() && text.len() <= 1_000 && !text.chars().any(char::is_control),
        "{text:?}"
    );
}
