//! Goes through the letters that match, by place, in chunks of a bounded size.

use sqlx::PgConnection;

use super::filter::LetterFilter;
use super::inquiry::LetterPlace;
use crate::store::letter_actions::{Candidate, list_candidates};
use crate::store::letters;

/// How far an action is. Letters that appear after its begin are not met: one that is redriven and fails again at once
/// does not keep the action going for ever.
pub(crate) struct Walk {
    filter: LetterFilter,
    cursor: Option<LetterPlace>,
    bytes_max: u64,
    /// Letters that matched at the begin.
    pub(crate) matched: u64,
}

impl Walk {
    pub(crate) async fn begin(
        connection: &mut PgConnection,
        filter: &LetterFilter,
        bytes_max: u64,
    ) -> Result<Self, sqlx::Error> {
        let now = letters::clock(connection).await?;
        let mut filter = filter.clone();
        filter.until = Some(filter.until.map_or(now, |until| until.min(now)));
        let matched = letters::count(connection, &filter).await?;
        Ok(Self { filter, cursor: None, bytes_max, matched: u64::try_from(matched).unwrap_or(0) })
    }

    pub(crate) fn filter(&self) -> &LetterFilter {
        &self.filter
    }

    /// The next chunk, in which records are not much longer than `bytes_max` together; empty at the end.
    pub(crate) async fn next(
        &mut self,
        connection: &mut PgConnection,
        letters_max: u32,
    ) -> Result<Vec<Candidate>, sqlx::Error> {
        let mut chunk =
            list_candidates(connection, &self.filter, self.cursor.as_ref(), i64::from(letters_max)).await?;
        let sizes = chunk.iter().map(|candidate| u64::try_from(candidate.bytes).unwrap_or(0));
        chunk.truncate(count_that_fit(sizes, self.bytes_max));
        if let Some(last) = chunk.last() {
            self.cursor = Some(last.place.clone());
        }
        Ok(chunk)
    }
}

/// How many of the first records are within `bytes_max` together; one at least, or there would be no end.
fn count_that_fit(sizes: impl Iterator<Item = u64>, bytes_max: u64) -> usize {
    let mut sum = 0_u64;
    let fit = sizes.take_while(|bytes| {
        sum = sum.saturating_add(*bytes);
        sum <= bytes_max
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::count_that_fit;

    #[test]
    fn a_chunk_has_a_size_and_one_letter_at_least() {
        assert_eq!(count_that_fit([4, 4, 4].into_iter(), 8), 2);
        assert_eq!(count_that_fit([4, 4, 4].into_iter(), 12), 3);
        assert_eq!(count_that_fit([99, 1].into_iter(), 8), 1);
    }
}
