//! From bytes to lines to fields, in constant memory whatever the bytes are.
//!
//! A record is one line: neither format has line breaks inside quotes. So a quote that is never closed costs its own
//! line and nothing behind it, and a line's number is its number in an editor.

use std::io::{self, BufRead};

use csv::ByteRecord;

use super::entry::Reason;

/// Longer lines are rejected; only so much of them is kept.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// Lines of a file, numbered from 1.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    line: Vec<u8>,
}

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) number: u64,
    /// The first [`LINE_BYTES_MAX`] bytes.
    pub(super) bytes: &'a [u8],
    /// Whether it had more.
    pub(super) is_cut: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self { reader, number: 0, line: Vec::new() }
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut length = 0_usize;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            // The line break counts: an empty line is not the end of the file.
            let used = end.map_or(part.len(), |end| end + 1);
            length = length.saturating_add(used);
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        self.number += 1;
        let is_cut = self.line.len() > LINE_BYTES_MAX;
        self.line.truncate(LINE_BYTES_MAX);
        Ok(Some(Line { number: self.number, bytes: &self.line, is_cut }))
    }
}

/// Splits lines into fields; keeps its memory from line to line.
#[derive(Default)]
pub(super) struct Splitter {
    record: ByteRecord,
}

impl Splitter {
    /// The fields of one line.
    pub(super) fn split(&mut self, line: &[u8]) -> Result<&ByteRecord, Reason> {
        self.record.clear();
        let quotes = line.iter().filter(|byte| **byte == b'"').count();
        if quotes == 0 {
            for field in line.split(|byte| *byte == b',') {
                self.record.push_field(field);
            }
        } else if quotes % 2 == 1 {
            return Err(Reason::UnbalancedQuote);
        } else {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .buffer_capacity(256)
                .from_reader(line);
            // Reading from memory with any number of fields cannot fail.
            reader.read_byte_record(&mut self.record).map_err(|_| Reason::FieldCount)?;
        }
        Ok(&self.record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LINE_BYTES_MAX, Lines, Splitter};

    fn lines(file: &[u8]) -> Vec<(u64, Vec<u8>, bool)> {
        // A tiny buffer, so that every line crosses its edge.
        let mut lines = Lines::new(std::io::BufReader::with_capacity(3, file));
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.number, line.bytes.to_vec(), line.is_cut));
        }
        found
    }

    #[test]
    fn lines_end_with_any_line_break_or_the_file() {
        let texts: Vec<_> =
            lines(b"a,b\r\nc\n\n\r\nlast").into_iter().map(|(number, text, _)| (number, text)).collect();
        let expected: [(u64, &[u8]); 5] = [(1, b"a,b"), (2, b"c"), (3, b""), (4, b""), (5, b"last")];
        assert_eq!(texts, expected.map(|(number, text)| (number, text.to_vec())));
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut file = vec![b'x'; LINE_BYTES_MAX * 3];
        file.extend_from_slice(b"\nnext\n");
        let found = lines(&file);
        assert_eq!((found[0].1.len(), found[0].2), (LINE_BYTES_MAX, true));
        assert_eq!(found[1], (2, b"next".to_vec(), false));
        let exact = vec![b'x'; LINE_BYTES_MAX];
        assert!(!lines(&exact)[0].2);
    }

    #[test]
    fn quoted_commas_and_quotes_belong_to_their_field() {
        let mut splitter = Splitter::default();
        let fields: Vec<&[u8]> = splitter.split(b"1,\"a, \"\"b\"\"\",,\"\"").unwrap().iter().collect();
        assert_eq!(fields, [b"1".as_slice(), b"a, \"b\"", b"", b""]);
        assert_eq!(splitter.split(b"1,,").unwrap().len(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_a_panic_and_as_the_library_does(line in proptest::collection::vec(
            prop_oneof![Just(b','), Just(b'"'), Just(b'a'), Just(b' '), any::<u8>()], 0..40)) {
            let line: Vec<u8> = line.into_iter().filter(|byte| !b"\r\n".contains(byte)).collect();
            let mut splitter = Splitter::default();
            let Ok(fields) = splitter.split(&line) else { return Ok(()) };
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_slice());
            let mut expected = csv::ByteRecord::new();
            if reader.read_byte_record(&mut expected).unwrap() {
                prop_assert_eq!(fields, &expected);
            }
        }
    }
}
