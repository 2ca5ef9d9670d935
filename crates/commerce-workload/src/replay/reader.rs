//! Reads the file into chunks, on a thread of its own: what a line means depends on the line alone.

use std::io::BufRead;
use std::path::Path;

use anyhow::{Context, bail};
use tokio::sync::mpsc;

use super::Format;
use super::entry::{Entry, Reason};
use super::fields::{Line, Lines, Splitter};
use super::report::Tally;
use super::{online_retail, taobao};

/// Chunks that wait for the database: their memory is bounded.
pub(super) const CHUNKS_WAITING_MAX: usize = 2;

/// Lines that are applied in one transaction.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// What has an effect, in the file's order.
    pub(super) entries: Vec<Entry>,
    /// What has none; and how many lines the chunk has in all.
    pub(super) tally: Tally,
    /// The last line of the chunk.
    pub(super) last_line: u64,
    /// Nothing comes after it.
    pub(super) is_last: bool,
}

/// What is read from the file and where to.
pub(super) struct Reading {
    pub(super) format: Format,
    pub(super) digest: String,
    /// Lines that were applied before.
    pub(super) lines_done: u64,
    pub(super) chunk_lines: u64,
}

impl Reading {
    /// Sends every line after [`Self::lines_done`] in chunks, at last one that [`Chunk::is_last`]; and writes every
    /// line that is rejected to `rejects`, from the first line on: an interrupted run leaves no mark in that file.
    /// Stops early when nobody receives any more.
    pub(super) fn run(
        &self,
        content: impl BufRead,
        rejects: Option<&Path>,
        chunks: &mpsc::Sender<Chunk>,
    ) -> anyhow::Result<()> {
        let mut rejects = rejects.map(Rejects::create).transpose()?;
        let mut lines = Lines::new(content);
        let mut splitter = Splitter::default();
        let mut chunk = Chunk::default();
        let mut last_line = 0;
        while let Some(line) = lines.next().context("reading the file")? {
            last_line = line.number;
            if line.number == 1 && self.is_header(&line)? {
                continue;
            }
            let is_done = line.number <= self.lines_done;
            if is_done && rejects.is_none() {
                continue;
            }
            let parsed = self.parse(&line, &mut splitter);
            if let (Some(rejects), Err(reason)) = (&mut rejects, &parsed) {
                rejects.write(&line, *reason)?;
            }
            if is_done {
                continue;
            }
            chunk.push(parsed);
            if chunk.tally.rows == self.chunk_lines {
                let full = Chunk { last_line, ..std::mem::take(&mut chunk) };
                if chunks.blocking_send(full).is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(rejects) = rejects {
            rejects.finish()?;
        }
        let _ = chunks.blocking_send(Chunk { last_line, is_last: true, ..chunk });
        Ok(())
    }

    /// The first line is the header of the format, or an error; a format that has editions without header takes any.
    fn is_header(&self, line: &Line<'_>) -> anyhow::Result<bool> {
        let bytes = line.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line.bytes);
        let (header, is_optional) = match self.format {
            Format::OnlineRetail => (online_retail::HEADER, false),
            Format::Taobao => (taobao::HEADER, true),
        };
        if bytes == header.as_bytes() {
            return Ok(true);
        }
        let looks_like_data = bytes.first().is_some_and(u8::is_ascii_digit);
        if is_optional && looks_like_data {
            return Ok(false);
        }
        bail!("this is not a file of format {}: its first line should be {header:?}", self.format)
    }

    fn parse(&self, line: &Line<'_>, splitter: &mut Splitter) -> Result<Entry, Reason> {
        if line.is_cut {
            return Err(Reason::TooLong);
        }
        let fields = splitter.split(line.bytes)?;
        match self.format {
            Format::OnlineRetail => online_retail::parse(fields),
            Format::Taobao => taobao::parse(fields, &self.digest, line.number),
        }
    }
}

impl Chunk {
    fn push(&mut self, parsed: Result<Entry, Reason>) {
        self.tally.rows += 1;
        match parsed {
            Ok(Entry::Ignored(kind)) => *self.tally.ignored.entry(kind.to_owned()).or_default() += 1,
            Ok(entry) => self.entries.push(entry),
            Err(reason) => *self.tally.rejected.entry(reason.as_str().to_owned()).or_default() += 1,
        }
    }
}

/// `line,reason,raw` for every rejected line; of a line that is too long the first 64 KiB.
struct Rejects {
    writer: csv::Writer<std::fs::File>,
}

impl Rejects {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let mut writer =
            csv::Writer::from_path(path).with_context(|| format!("creating {}", path.display()))?;
        writer.write_record(["line", "reason", "raw"])?;
        Ok(Self { writer })
    }

    fn write(&mut self, line: &Line<'_>, reason: Reason) -> anyhow::Result<()> {
        let number = line.number.to_string();
        let record = [number.as_bytes(), reason.as_str().as_bytes(), line.bytes];
        self.writer.write_record(record).context("writing the rejects")
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.writer.flush().context("writing the rejects")
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Reading, mpsc};
    use crate::replay::Format;

    fn read(format: Format, content: &'static str, lines_done: u64) -> anyhow::Result<(Vec<Chunk>, String)> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("rejects.csv");
        let (sender, mut receiver) = mpsc::channel(100);
        let reading = Reading { format, digest: "d".to_owned(), lines_done, chunk_lines: 2 };
        reading.run(content.as_bytes(), Some(&path), &sender)?;
        drop(sender);
        let chunks = std::iter::from_fn(|| receiver.blocking_recv()).collect();
        Ok((chunks, std::fs::read_to_string(path)?))
    }

    const FILE: &str = "\u{feff}user_id,item_id,category_id,behavior,ts\r\n1,1,1,pv,1511658000\r\n\
                        ,\"2\",1,pv,1511658000\r\n\r\n1,1,1,cart,1511658000\r\n1,1,1,buy,1511658000";

    #[test]
    fn chunks_follow_each_other_and_rejects_name_their_lines() {
        let (chunks, rejects) = read(Format::Taobao, FILE, 0).unwrap();
        let shape: Vec<_> = chunks
            .iter()
            .map(|chunk| (chunk.tally.rows, chunk.entries.len(), chunk.last_line, chunk.is_last))
            .collect();
        assert_eq!(shape, [(2, 1, 3, false), (2, 0, 5, false), (1, 1, 6, true)]);
        assert_eq!(
            rejects,
            "line,reason,raw\n3,bad_customer,\",\"\"2\"\",1,pv,1511658000\"\n4,field_count,\n"
        );
    }

    #[test]
    fn a_resumed_file_skips_what_is_done_and_has_the_same_rejects() {
        let (whole, rejects) = read(Format::Taobao, FILE, 0).unwrap();
        for lines_done in 1..=6 {
            let (rest, again) = read(Format::Taobao, FILE, lines_done).unwrap();
            assert_eq!(again, rejects);
            let rows = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.tally.rows).sum::<u64>();
            assert_eq!(rows(&rest), rows(&whole) - (lines_done - 1));
            assert_eq!(rest.last().map(|chunk| (chunk.last_line, chunk.is_last)), Some((6, true)));
        }
    }

    #[test]
    fn a_file_of_another_format_is_refused() {
        assert!(read(Format::OnlineRetail, FILE, 0).is_err());
        assert!(read(Format::Taobao, "InvoiceNo,StockCode\n1,2\n", 0).is_err());
        assert!(read(Format::Taobao, "1,1,1,pv,1511658000\n", 0).is_ok(), "an edition without header");
        assert_eq!(read(Format::OnlineRetail, "", 0).unwrap().0.len(), 1, "an empty file has an end too");
    }
}
