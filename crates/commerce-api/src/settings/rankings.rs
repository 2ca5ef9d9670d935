//! `[rankings]`: what a ranking weighs, and its limits.

use std::time::Duration;

use serde::Deserialize;

use super::{AGE_CEILING, SettingsError, refuse};
use crate::store::rankings::Weights;

/// `[rankings]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingSettings {
    /// What a view is worth.
    pub view_weight: f64,
    /// What a like is worth.
    pub like_weight: f64,
    /// What one more in the natural logarithm of the amount sold is worth.
    pub sales_weight: f64,
    /// How much of the score of the day (the hour) before a day (an hour) begins with.
    pub carry_over: f64,
    /// How old a ranking may be.
    #[serde(with = "humantime_serde")]
    pub age_max: Duration,
    /// Places of a ranking.
    pub products_max: usize,
    /// Rankings that are remembered.
    pub windows_max: usize,
    /// How long the read of a ranking may take.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
}

impl RankingSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`SettingsError`] names the key.
    pub fn validate(&self, page_size_max: usize) -> Result<(), SettingsError> {
        let weights = [
            ("rankings.view_weight", self.view_weight),
            ("rankings.like_weight", self.like_weight),
            ("rankings.sales_weight", self.sales_weight),
        ];
        if let Some((key, _)) = weights.into_iter().find(|(_, weight)| !weight.is_finite() || *weight < 0.0) {
            return refuse(key, "must not be below 0");
        }
        if !(0.0..=1.0).contains(&self.carry_over) {
            return refuse("rankings.carry_over", "must be between 0 and 1");
        }
        if self.products_max < page_size_max {
            return refuse("rankings.products_max", "must not be below api.page_size_max");
        }
        if self.age_max > AGE_CEILING {
            return refuse("rankings.age_max", "must not exceed 365days");
        }
        if self.windows_max == 0 {
            return refuse("rankings.windows_max", "must be at least 1");
        }
        if self.query_timeout.is_zero() {
            return refuse("rankings.query_timeout", "must be above zero");
        }
        Ok(())
    }

    pub(crate) const fn weights(&self) -> Weights {
        Weights {
            views: self.view_weight,
            likes: self.like_weight,
            sales: self.sales_weight,
            carried: self.carry_over,
        }
    }
}
