//! The part of the binary's commands that decides about foreign text.

#[path = "../../crates/commerce/src/cmd/terminal.rs"]
pub(crate) mod terminal;
