//! All SQL of this crate: free functions, one statement each.

pub(crate) mod append;
pub(crate) mod backlog;
pub(crate) mod guard;
pub(crate) mod parked;
pub(crate) mod parked_admin;
pub(crate) mod rebase;
pub(crate) mod relay;
pub(crate) mod shard;
pub(crate) mod tick;
pub(crate) mod window;
