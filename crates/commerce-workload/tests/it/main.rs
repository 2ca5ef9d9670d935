//! The tools against real services.

mod replay;
mod verify;
