//! Seeded traffic of buyers through the real HTTP API, recorded in a ledger of acknowledged responses.
//!
//! Invariant: what is sent is a pure function of the seed; only how requests interleave differs between runs.
//! Each buyer waits for one answer before the next command, so his acknowledged responses are ordered.

mod catalogue;
mod drive;
mod operator;
mod pace;
mod plan;
mod popularity;
mod shop;

pub use catalogue::{PlannedProduct, catalogue};
pub use drive::{Driven, Market, Tallies, drive};
pub use operator::{Restocking, restock};
pub use pace::Pace;
pub use plan::{BuyerPlan, PlannedLine, Step, TrafficSettings};
pub use popularity::Popularity;
pub use shop::{NewProduct, ProductRow, Shop, ShopError};

/// A seed of its own for each use, so that no two streams of random numbers are related.
fn seed(run_seed: u64, purpose: &str, number: u64) -> u64 {
    // FNV-1a: stable over versions and platforms, which a hasher of the standard library need not be.
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = run_seed.to_be_bytes().into_iter().chain(purpose.bytes()).chain(number.to_be_bytes());
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The nearest whole number; 0 for what is none.
pub(crate) fn whole(number: f64) -> u64 {
    // Text is the one conversion without a cast, and nothing here is done often.
    format!("{number:.0}").parse().unwrap_or(0)
}
