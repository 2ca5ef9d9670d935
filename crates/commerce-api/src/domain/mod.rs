//! The shop's rules: pure functions over plain values, no I/O.

pub(crate) mod filter;
pub(crate) mod money;
pub(crate) mod order;
pub(crate) mod page;
pub(crate) mod placing;
pub(crate) mod product;
pub(crate) mod ranking;
pub(crate) mod request;
pub(crate) mod secret;
pub(crate) mod token;

pub use order::{Line, OrderKind};
pub(crate) use product::NewProduct;
pub(crate) use request::InvalidInput;
