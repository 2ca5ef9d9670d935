//! The SQL of this crate.

pub(crate) mod batch;
pub(crate) mod blocked;
pub(crate) mod dead_letter;
pub(crate) mod handled;
pub(crate) mod letter_actions;
pub(crate) mod letters;
mod literal;
pub(crate) mod offsets;
pub(crate) mod progress;
pub(crate) mod source;
pub(crate) mod totals;
pub(crate) mod window;
