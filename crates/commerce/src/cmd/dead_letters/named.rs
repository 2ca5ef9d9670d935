//! Letters that are named one by one: whoever names a letter learns if it is not among those that match.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::bail;
use inbox::dead_letter::{self, LetterFilter, LetterStatus};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

/// Letters that were named and do not match, and why not.
pub(super) struct Unmatched(BTreeMap<Uuid, String>);

impl Unmatched {
    /// Looks for every letter that the filter names, but for those that are in a state of `done` already: the same command again is
    /// no error. Called before an action, for what was acted on may match no more.
    pub(super) async fn find(
        connection: &mut PgConnection,
        filter: &LetterFilter,
        done: &[LetterStatus],
    ) -> anyhow::Result<Self> {
        let named: HashSet<Uuid> = filter.ids.iter().copied().collect();
        if named.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let matching = statuses(connection, filter).await?;
        let ids: Vec<Uuid> = named.into_iter().filter(|id| !matching.contains_key(id)).collect();
        if ids.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let any = LetterStatus::ALL.to_vec();
        let missed = LetterFilter { ids: ids.clone(), statuses: any, ..LetterFilter::default() };
        let known = statuses(connection, &missed).await?;
        let is_done = |id: &Uuid| known.get(id).is_some_and(|status| done.contains(status));
        let missing = ids.into_iter().filter(|id| !is_done(id));
        Ok(Self(missing.map(|id| (id, cause(known.get(&id), &filter.statuses))).collect()))
    }

    pub(super) fn to_json(&self) -> Value {
        self.0.iter().map(|(id, cause)| json!({"id": id.to_string(), "error": cause})).collect()
    }

    /// # Errors
    /// There are any.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let causes: Vec<String> = self.0.iter().map(|(id, cause)| format!("{id}: {cause}")).collect();
        bail!("not every letter that was named matches: {}", causes.join("; "))
    }
}

fn cause(found: Option<&LetterStatus>, asked: &[LetterStatus]) -> String {
    match found {
        None => "there is no such dead letter".to_owned(),
        Some(status) if asked.contains(status) => "another condition excludes it".to_owned(),
        Some(status) => format!("it is {status}"),
    }
}

/// The states of letters that match a filter with ids.
async fn statuses(
    connection: &mut PgConnection,
    filter: &LetterFilter,
) -> anyhow::Result<HashMap<Uuid, LetterStatus>> {
    let letters_max = u32::try_from(filter.ids.len())?;
    let letters = dead_letter::list_letters(connection, filter, letters_max).await?;
    Ok(letters.into_iter().map(|letter| (letter.id, letter.status)).collect())
}
