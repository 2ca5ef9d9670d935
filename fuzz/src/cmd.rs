//! The part of the binary's commands that decides about foreign text.

#[path = "../../crates/commerce/src/cmd/terminal.rs"]
#[expect(dead_code, reason = "what prints is not called here")]
pub(crate) mod terminal;
