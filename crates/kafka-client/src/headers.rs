//! Headers of foreign records.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `read` makes of a record's headers; `None` when the name of one is not UTF-8. The client library panics then, and a foreign producer
/// must not stop whoever reads.
pub(crate) fn readable<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}
