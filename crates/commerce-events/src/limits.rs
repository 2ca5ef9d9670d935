//! Bounds of the contract: what lies outside is refused by producers and dead-lettered by consumers.
//!
//! The product of the line limits stays below `i64::MAX`, so no sum over one event can overflow.

/// Lines of one order event. The longest invoice seen in recorded retail data has 1,114.
pub const LINES_MAX: usize = 2_000;
/// Units of one order line. Recorded retail data holds single lines of 80,995.
pub const QUANTITY_MAX: i64 = 1_000_000;
/// Minor units of one unit's price.
pub const UNIT_PRICE_MAX: i64 = 1_000_000_000;
/// Minor units of one order: low enough that the sum over 9,000 orders fits `i64`.
pub const ORDER_AMOUNT_MAX: i64 = 1_000_000_000_000_000;
/// Objects and arrays that stand in each other, unknown fields included: what the strictest of the common JSON readers takes
/// by default (.NET's System.Text.Json), so that no reader of a topic is left behind.
pub const NESTING_MAX: usize = 64;
