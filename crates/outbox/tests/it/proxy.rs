//! A TCP proxy whose connections can be cut or frozen.

pub(crate) use testkit::{Line, Proxy};
