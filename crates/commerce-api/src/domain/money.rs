//! Amounts in minor units.

/// Σ left × right; `None` when a product or the sum does not fit.
pub(crate) fn checked_total(pairs: impl IntoIterator<Item = (i64, i64)>) -> Option<i64> {
    pairs.into_iter().try_fold(0_i64, |sum, (left, right)| {
        left.checked_mul(right).and_then(|amount| sum.checked_add(amount))
    })
}
