//! The protocol on Redis: two keys a product with one hash tag, so that a cluster keeps both in one slot.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Pipeline, RedisResult, Script};
use serde::{Deserialize, Serialize};

use crate::metrics::{self, LookupMetrics};
use crate::{CacheError, CacheSettings, Card, Invalidation, Lookup, ProductCache, Tombstone};

/// The cache of a system with several processes. Cheap to clone; reconnects by itself.
#[derive(Clone)]
pub struct RedisCache {
    connection: ConnectionManager,
    settings: CacheSettings,
    fill: Script,
    invalidate: Script,
    jitter: RandomState,
    lookups: LookupMetrics,
}

impl std::fmt::Debug for RedisCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RedisCache").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A stored card. The version is the first field: the scripts find it there.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredCard {
    stock_version: i64,
    sold_out: bool,
    code: String,
    name: String,
    /// Absent in cards of processes that know no brands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    brand: Option<String>,
    price: i64,
}

/// What a card begins with, before its version; so the scripts have it too.
const CARD_BEGINNING: &str = "{\"stockVersion\":";

impl RedisCache {
    /// Prepares a connection; connects with the first call, so that a process starts while Redis is down. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// [`CacheError::Settings`] when the URL or the settings cannot be used.
    pub fn connect(url: &str, settings: CacheSettings) -> Result<Self, CacheError> {
        settings.validate()?;
        let unusable = |_| CacheError::Settings("redis.url is not a Redis URL".to_owned());
        let client = Client::open(url).map_err(unusable)?;
        // One attempt a call: the next call tries again, and nobody waits for a schedule of retries.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(settings.timeout))
            .set_response_timeout(Some(settings.timeout));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(unusable)?;
        Ok(Self {
            connection,
            settings,
            fill: Script::new(include_str!("fill.lua")),
            invalidate: Script::new(include_str!("invalidate.lua")),
            jitter: RandomState::new(),
            lookups: LookupMetrics::new(),
        })
    }

    fn card_key(&self, product_id: i64) -> String {
        format!("{}card:{{{product_id}}}", self.settings.key_prefix)
    }

    fn tombstone_key(&self, product_id: i64) -> String {
        format!("{}inv:{{{product_id}}}", self.settings.key_prefix)
    }

    /// Half to whole of the card's life.
    fn card_ttl_ms(&self, product_id: i64, seed: usize) -> u64 {
        let whole = millis(self.settings.card_ttl);
        let half = whole / 2;
        half + self.jitter.hash_one((product_id, seed, std::time::Instant::now())) % (whole - half + 1)
    }

    async fn bounded<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = RedisResult<T>> + Send,
    ) -> Result<T, CacheError> {
        // A lost connection is noticed by one timeout and replaced within a second one; no caller waits for both.
        let answer = match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(answer) => answer.map_err(CacheError::Unavailable),
            Err(_elapsed) => Err(CacheError::TimedOut),
        };
        answer.inspect_err(|_| metrics::error(operation))
    }

    /// Runs a pipeline of one script in one round trip and counts the answers that are 1 and 0. The script is sent
    /// along, so that a restarted server needs no second try.
    async fn run_scripts(
        &self,
        operation: &'static str,
        script: &Script,
        add: impl FnOnce(&mut Pipeline),
    ) -> Result<(usize, usize), CacheError> {
        let mut pipeline = Pipeline::new();
        pipeline.load_script(script).ignore();
        add(&mut pipeline);
        let mut connection = self.connection.clone();
        let answers: Vec<u8> =
            self.bounded(operation, async { pipeline.query_async(&mut connection).await }).await?;
        let done = answers.iter().filter(|answer| **answer == 1).count();
        Ok((done, answers.len() - done))
    }
}

#[async_trait]
impl ProductCache for RedisCache {
    async fn read(&self, ids: &[i64]) -> Result<Vec<Lookup>, CacheError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for id in ids {
            command.arg(self.card_key(*id)).arg(self.tombstone_key(*id));
        }
        let mut connection = self.connection.clone();
        let values: Vec<Option<Vec<u8>>> =
            self.bounded("read", async { command.query_async(&mut connection).await }).await?;
        let lookups: Vec<Lookup> = ids
            .iter()
            .zip(values.chunks_exact(2))
            .map(|(id, pair)| match pair {
                [card, tombstone] => Lookup {
                    card: card.as_deref().and_then(|bytes| decode_card(*id, bytes)),
                    tombstone: tombstone.as_deref().and_then(decode_tombstone),
                },
                _ => Lookup::default(),
            })
            .collect();
        let hits = lookups.iter().filter(|lookup| lookup.card.is_some()).count();
        self.lookups.add(hits, ids.len() - hits);
        Ok(lookups)
    }

    async fn fill(&self, cards: &[Card]) -> Result<(), CacheError> {
        if cards.is_empty() {
            return Ok(());
        }
        let encoded = cards.iter().map(encode_card).collect::<Result<Vec<_>, _>>()?;
        let (stored, refused) = self
            .run_scripts("fill", &self.fill, |pipeline| {
                for (seed, (card, json)) in cards.iter().zip(encoded).enumerate() {
                    let mut call = self.fill.key(self.card_key(card.product_id));
                    call.key(self.tombstone_key(card.product_id))
                        .arg(card.stock_version.max(0))
                        .arg(json)
                        .arg(self.card_ttl_ms(card.product_id, seed));
                    pipeline.invoke_script(&call);
                }
            })
            .await?;
        metrics::fills(stored, refused);
        Ok(())
    }

    async fn invalidate(&self, invalidations: &[Invalidation]) -> Result<(), CacheError> {
        if invalidations.is_empty() {
            return Ok(());
        }
        let ttl = millis(self.settings.tombstone_ttl);
        let (raised, known) = self
            .run_scripts("invalidate", &self.invalidate, |pipeline| {
                for invalidation in invalidations {
                    let mut call = self.invalidate.key(self.card_key(invalidation.product_id));
                    call.key(self.tombstone_key(invalidation.product_id))
                        .arg(invalidation.version.max(0))
                        .arg(u8::from(invalidation.sold_out))
                        .arg(ttl);
                    pipeline.invoke_script(&call);
                }
            })
            .await?;
        metrics::invalidations(raised, known);
        Ok(())
    }
}

pub(crate) fn encode_card(card: &Card) -> Result<Vec<u8>, CacheError> {
    serde_json::to_vec(&StoredCard {
        stock_version: card.stock_version.max(0),
        sold_out: card.sold_out,
        code: card.code.clone(),
        name: card.name.clone(),
        brand: card.brand.clone(),
        price: card.price,
    })
    .map_err(CacheError::Encode)
}

/// An entry that cannot be read is a miss: the next fill or invalidation replaces it. So is one whose version the scripts would not find.
pub(crate) fn decode_card(product_id: i64, bytes: &[u8]) -> Option<Card> {
    let unreadable = || metrics::error("decode");
    let stored: StoredCard = serde_json::from_slice(bytes).inspect_err(|_| unreadable()).ok()?;
    if version_at_the_beginning(bytes) != Some(stored.stock_version) {
        unreadable();
        return None;
    }
    Some(Card {
        product_id,
        code: stored.code,
        name: stored.name,
        brand: stored.brand,
        price: stored.price,
        sold_out: stored.sold_out,
        stock_version: stored.stock_version,
    })
}

/// The version that the scripts find in a card: digits and no more.
fn version_at_the_beginning(bytes: &[u8]) -> Option<i64> {
    let rest = bytes.strip_prefix(CARD_BEGINNING.as_bytes())?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// Only as the scripts write it: what they would take for another version must not decide here.
pub(crate) fn decode_tombstone(bytes: &[u8]) -> Option<Tombstone> {
    let (digits, sold_out) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    let version: i64 = digits.parse().ok()?;
    let sold_out = match sold_out {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    (version >= 0 && version.to_string() == digits).then_some(Tombstone { version, sold_out })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{decode_card, decode_tombstone, encode_card};
    use crate::{Card, Tombstone};

    #[test]
    fn the_version_is_where_the_scripts_look_for_it() {
        let card = Card {
            product_id: 7,
            code: "c".to_owned(),
            name: "{\"stockVersion\":99".to_owned(),
            brand: Some("b".to_owned()),
            price: 1,
            sold_out: false,
            stock_version: 12,
        };
        let encoded = encode_card(&card).unwrap();
        assert!(encoded.starts_with(br#"{"stockVersion":12,"#));
        assert_eq!(decode_card(7, &encoded), Some(card));
    }

    #[test]
    fn a_card_without_a_brand_is_one_of_no_brand() {
        let card = decode_card(7, br#"{"stockVersion":1,"soldOut":false,"code":"c","name":"n","price":1}"#);
        assert_eq!(card.and_then(|card| card.brand), None);
        assert!(
            decode_card(7, br#"{"stockVersion":1,"soldOut":false,"code":"c","name":"n","price":1}"#)
                .is_some()
        );
    }

    #[test]
    fn an_unreadable_entry_is_a_miss() {
        let rest = r#","soldOut":false,"code":"c","name":"n","price":1}"#;
        let card = |beginning: &str| decode_card(1, format!("{beginning}{rest}").as_bytes());
        assert_eq!(card("{\"stockVersion\":12").map(|card| card.stock_version), Some(12));
        // The scripts would find no version in these, or another one.
        for beginning in [
            "{\"stockVersion\":-1",
            "{\"stockVersion\": 12",
            "{ \"stockVersion\":12",
            "{\"price\":1,\"stockVersion\":12",
            "{\"stockVersion\":12.0",
            "{\"stockVersion\":9223372036854775808",
        ] {
            assert_eq!(card(beginning), None, "{beginning}");
        }
        assert_eq!(decode_card(1, b"{}"), None);
        for entry in
            ["x 1", "-3 1", "+3 1", "03 1", " 3 1", "3", "3 ", "3 2", "3  1", "3 1 ", "9223372036854775808 1"]
        {
            assert_eq!(decode_tombstone(entry.as_bytes()), None, "{entry}");
        }
        assert_eq!(decode_tombstone(b"3 1"), Some(Tombstone { version: 3, sold_out: true }));
        assert_eq!(decode_tombstone(b"0 0"), Some(Tombstone { version: 0, sold_out: false }));
    }
}
