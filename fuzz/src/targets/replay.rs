//! Recorded files. An input is a file of either format, plain or Zstandard.

use commerce_workload::fuzzing::read_file;
use commerce_workload::replay::Format;

pub(super) fn run(input: &[u8]) {
    for format in Format::ALL {
        let Ok(whole) = read_file(format, input, 0) else { continue };
        // Interrupted anywhere, the rest is what was not read.
        let done = whole.last_line / 2;
        let rest = read_file(format, input, done).expect("it was read before");
        assert_eq!(rest.last_line, whole.last_line);
        assert!(rest.rows <= whole.last_line - done && rest.entries <= whole.entries);
    }
}
