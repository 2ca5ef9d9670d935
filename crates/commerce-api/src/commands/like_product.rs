//! Likes: given once, taken back once, however often the request is repeated. Those that wait together are changed in one
//! transaction, and each gets the answer that it would have got alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use commerce_events::{CatalogEvent, Event, ProductLikeV1};

use super::{Context, Shop, distinct};
use crate::error::ApiError;
use crate::event_log::Occurrence;
use crate::group_commit::{Group, GroupError};
use crate::store::likes::{delete_likes, insert_likes};
use crate::store::products::list_prices;
use crate::store::{Session, StoreError};

/// A like that is given or taken back.
#[derive(Debug, Clone)]
pub(crate) struct LikeProduct {
    pub(crate) context: Context,
    pub(crate) product_id: i64,
    /// Whether the buyer likes the product from now on.
    pub(crate) is_liked: bool,
}

impl LikeProduct {
    fn pair(&self) -> (i64, i64) {
        (self.context.user_id, self.product_id)
    }
}

/// Likes that wait.
pub(crate) struct LikeGroup(pub(crate) Arc<Shop>);

/// Whether the request changed something.
type Answer = Result<bool, ApiError>;

impl Group for LikeGroup {
    const KIND: &'static str = "like";
    const NEEDS_CALLERS: bool = true;
    type Command = LikeProduct;
    type Answer = Answer;

    async fn execute(&self, session: Session, likes: &[LikeProduct]) -> Result<Vec<Answer>, GroupError> {
        change_likes(&self.0, session, likes).await
    }

    fn failed(error: ApiError) -> Answer {
        Err(error)
    }
}

async fn change_likes(
    shop: &Shop,
    mut session: Session,
    likes: &[LikeProduct],
) -> Result<Vec<Answer>, GroupError> {
    let products = distinct(likes.iter().map(|like| like.product_id));
    let known: HashSet<i64> =
        list_prices(&mut session, &products).await?.into_iter().map(|(product, _)| product).collect();
    let mut changed = HashSet::new();
    for round in rounds(likes, &known) {
        changed.extend(change(&mut session, likes, &round).await?);
    }
    let occurrences: Vec<Occurrence<'_>> = likes
        .iter()
        .enumerate()
        .filter(|(index, _)| changed.contains(index))
        .map(|(_, like)| occurrence(like))
        .collect();
    if occurrences.is_empty() {
        session.roll_back().await;
    } else {
        shop.commit_group(session, &occurrences).await?;
    }
    let answer = |(index, like): (usize, &LikeProduct)| match known.contains(&like.product_id) {
        true => Ok(changed.contains(&index)),
        false => Err(ApiError::NoProduct { product_ids: vec![like.product_id] }),
    };
    Ok(likes.iter().enumerate().map(answer).collect())
}

/// Indexes of likes of known products; each round has a pair of buyer and product once, and the rounds keep their order.
fn rounds(likes: &[LikeProduct], known: &HashSet<i64>) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut next: HashMap<(i64, i64), usize> = HashMap::new();
    for (index, like) in likes.iter().enumerate() {
        if !known.contains(&like.product_id) {
            continue;
        }
        let round = next.entry(like.pair()).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(index);
        *round += 1;
    }
    rounds
}

/// Changes the likes of one round; answers the indexes of those that changed something.
async fn change(
    session: &mut Session,
    likes: &[LikeProduct],
    round: &[usize],
) -> Result<Vec<usize>, StoreError> {
    let pairs = |is_liked: bool| -> (Vec<i64>, Vec<i64>) {
        let chosen = round.iter().map(|index| &likes[*index]).filter(|like| like.is_liked == is_liked);
        chosen.map(LikeProduct::pair).unzip()
    };
    let (users, products) = pairs(true);
    let mut changed: HashSet<(i64, i64)> = HashSet::new();
    if !users.is_empty() {
        changed.extend(insert_likes(session, &users, &products).await?);
    }
    let (users, products) = pairs(false);
    if !users.is_empty() {
        changed.extend(delete_likes(session, &users, &products).await?);
    }
    Ok(round.iter().copied().filter(|index| changed.contains(&likes[*index].pair())).collect())
}

fn occurrence(like: &LikeProduct) -> Occurrence<'_> {
    let LikeProduct { context, product_id, is_liked } = like;
    let changed = ProductLikeV1 { product_id: *product_id, user_id: context.user_id };
    let event = if *is_liked { CatalogEvent::Liked(changed) } else { CatalogEvent::Unliked(changed) };
    context.occurrence(Event::Catalog(event))
}
