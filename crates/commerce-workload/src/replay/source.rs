//! The recorded file: found, identified, opened.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, stdin};
use std::path::Path;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

/// What a Zstandard frame begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// A file that can be read more than once.
pub(super) struct Source {
    file: File,
    bytes: u64,
}

impl Source {
    /// Opens `path`; `-` is standard input. What can be read only once is copied to a temporary file first, because
    /// the digest of the whole must be known before the first event.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            eprintln!(
                "standard input is copied to a temporary file first: its digest must be known before the first event"
            );
            return Self::spool(stdin().lock()).context("copying standard input to a temporary file");
        }
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            return Ok(Self { file, bytes: metadata.len() });
        }
        Self::spool(file).with_context(|| format!("copying {} to a temporary file", path.display()))
    }

    fn spool(mut input: impl Read) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        let bytes = io::copy(&mut input, &mut file)?;
        Ok(Self { file, bytes })
    }

    /// The content from its beginning, decompressed if need be. `label` names the bar that shows how far it is read.
    pub(super) fn content(&self, label: &'static str) -> io::Result<Box<dyn BufRead + Send>> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        decompressed(BufReader::with_capacity(BUFFER_BYTES, self.bar(label).wrap_read(file)))
    }

    /// SHA-256 of the content, so that a file is the same compressed, plain and from a pipe.
    pub(super) fn digest(&self) -> io::Result<String> {
        let mut content = self.content("identifying")?;
        let mut hasher = Sha256::new();
        loop {
            let part = content.fill_buf()?;
            if part.is_empty() {
                break;
            }
            hasher.update(part);
            let used = part.len();
            content.consume(used);
        }
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// On a terminal only; cleared at its end.
    fn bar(&self, label: &'static str) -> ProgressBar {
        let bar = ProgressBar::new(self.bytes);
        if let Ok(style) =
            ProgressStyle::with_template("{msg:12} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}")
        {
            bar.set_style(style);
        }
        bar.set_message(label);
        bar
    }
}

/// What `reader` holds, or what is compressed in it.
pub(super) fn decompressed(mut reader: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    if reader.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        let decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
    } else {
        Ok(Box::new(reader))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::Source;

    #[test]
    fn a_file_is_the_same_compressed_and_plain() {
        let text = b"a,b\n1,2\n".repeat(1_000);
        let compressed = zstd::encode_all(text.as_slice(), 3).unwrap();
        let plain = Source::spool(text.as_slice()).unwrap();
        let packed = Source::spool(compressed.as_slice()).unwrap();
        assert_eq!(plain.digest().unwrap(), packed.digest().unwrap());
        assert_eq!(plain.digest().unwrap().len(), 64);
        let mut content = Vec::new();
        packed.content("").unwrap().read_to_end(&mut content).unwrap();
        assert!(content == text);
    }

    #[test]
    fn a_compressed_file_that_breaks_off_is_an_error() {
        let compressed = zstd::encode_all(b"a,b\n1,2\n".repeat(1_000).as_slice(), 3).unwrap();
        let half = Source::spool(&compressed[..compressed.len() - 3]).unwrap();
        assert!(half.digest().is_err());
    }
}
