//! How often may somebody ask: by address before anything is done for him, by caller once it is known who he is.
//!
//! Invariants: memory is bounded; who is forgotten to make room begins anew, which is what a new address may do anyway. An
//! address of IPv6 is its network of 64 bits, as a subscriber has all of one. Each process limits for itself.

use std::convert::Infallible;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use quick_cache::sync::Cache;

use crate::error::ApiError;
use crate::metrics::{self, LimitedBy};

/// A limit: so many at once, and so many each minute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// 0: no limit.
    pub(crate) per_minute: u32,
    pub(crate) burst: u32,
}

/// What is limited, and how much of it is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateLimits {
    pub(crate) address: Rate,
    pub(crate) caller: Rate,
    /// Addresses, and callers, that are remembered.
    pub(crate) keys_max: usize,
}

/// The limits with what is known of whom.
pub(crate) struct Rates {
    addresses: Option<Limiter<IpAddr, MonotonicClock>>,
    callers: Option<Limiter<i64, MonotonicClock>>,
}

impl Rates {
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self {
            addresses: Limiter::new(limits.address, limits.keys_max, MonotonicClock),
            callers: Limiter::new(limits.caller, limits.keys_max, MonotonicClock),
        }
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`] when it has to wait.
    pub(crate) fn admit_address(&self, address: IpAddr) -> Result<(), ApiError> {
        admit(self.addresses.as_ref(), network(address), LimitedBy::Address)
    }

    /// Counts a request of a caller.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`] when he has to wait.
    pub(crate) fn admit_caller(&self, user_id: i64) -> Result<(), ApiError> {
        admit(self.callers.as_ref(), user_id, LimitedBy::Caller)
    }
}

fn admit<K: Key>(
    limiter: Option<&Limiter<K, MonotonicClock>>,
    key: K,
    by: LimitedBy,
) -> Result<(), ApiError> {
    let Some(limiter) = limiter else { return Ok(()) };
    limiter.admit(key).map_err(|retry_after| {
        metrics::rate_limited(by);
        ApiError::TooManyRequests { retry_after }
    })
}

/// Whom an address stands for.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// By what is limited.
trait Key: Copy + Eq + Hash + Send + Sync + 'static {}
impl Key for IpAddr {}
impl Key for i64 {}

struct Limiter<K: Key, C: Clock>(RateLimiter<K, Bounded<K>, C, NoOpMiddleware<C::Instant>>);

impl<K: Key, C: Clock> Limiter<K, C> {
    /// `None` for no limit.
    fn new(rate: Rate, keys_max: usize, clock: C) -> Option<Self> {
        let quota =
            Quota::per_minute(NonZeroU32::new(rate.per_minute)?).allow_burst(NonZeroU32::new(rate.burst)?);
        Some(Self(RateLimiter::new(quota, Bounded(Cache::new(keys_max)), clock)))
    }

    /// # Errors
    /// How long the key has to wait.
    fn admit(&self, key: K) -> Result<(), Duration> {
        self.0.check_key(&key).map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

/// Where the limiter keeps what it knows of a key: not more than a number of them.
struct Bounded<K>(Cache<K, Arc<InMemoryState>>);

impl<K: Key> StateStore for Bounded<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Ok(state) = self.0.get_or_insert_with(key, || Ok::<_, Infallible>(Arc::default()));
        state.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::{Bounded, Limiter, Rate, network};

    fn limiter(
        per_minute: u32,
        burst: u32,
        keys_max: usize,
    ) -> (Limiter<i64, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(Rate { per_minute, burst }, keys_max, clock.clone()).unwrap(), clock)
    }

    #[test]
    fn so_many_are_let_in_at_once_and_then_one_by_one() {
        let (limiter, clock) = limiter(6, 3, 10);
        for _ in 0..3 {
            assert_eq!(limiter.admit(1), Ok(()));
        }
        assert_eq!(limiter.admit(1), Err(Duration::from_secs(10)));
        assert_eq!(limiter.admit(2), Ok(()), "everybody has his own limit");
        clock.advance(Duration::from_secs(4));
        assert_eq!(limiter.admit(1), Err(Duration::from_secs(6)), "to be refused costs nothing");
        clock.advance(Duration::from_secs(6));
        assert_eq!(limiter.admit(1), Ok(()), "who waits as long as he was told is let in");
        assert_eq!(limiter.admit(1), Err(Duration::from_secs(10)));
    }

    #[test]
    fn a_limit_of_0_is_none() {
        assert!(
            Limiter::<i64, _>::new(Rate { per_minute: 0, burst: 1 }, 10, FakeRelativeClock::default())
                .is_none()
        );
    }

    #[test]
    fn so_many_keys_are_remembered_and_no_more() {
        let (limiter, _) = limiter(6, 1, 100);
        for key in 0..10_000 {
            assert_eq!(limiter.admit(key), Ok(()), "a new one is let in, however many there are");
        }
        let Bounded(keys) = limiter.0.into_state_store();
        assert!(keys.len() <= 100, "{}", keys.len());
    }

    #[test]
    fn who_asks_all_the_time_is_not_forgotten_for_strangers() {
        let (limiter, _) = limiter(6, 1, 100);
        let mut refused = 0;
        for key in 0..10_000 {
            refused += i64::from(limiter.admit(-1).is_err());
            assert_eq!(limiter.admit(key), Ok(()));
        }
        assert!(refused > 9_900, "{refused}");
    }

    #[test]
    fn an_address_of_ipv6_is_its_network_of_64_bits() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::1", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(network(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap(), "{address}");
        }
    }
}
