//! How recorded files and records of topics are read, for the fuzzer.

pub use crate::replay::fuzzing::{FileReading, read_file};
pub use crate::verify::fuzzing::seen_event;
