//! What goes wrong, and when: drawn from the seed.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use sqlx::PgConnection;
use testkit::Line;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::relay_process::LEASE;
use super::relays::Relays;
use crate::Server;

/// Time between two faults.
const PAUSE_MILLIS: std::ops::RangeInclusive<u64> = 50..=700;
/// How long a relay or its way to the broker stays disturbed: from well within a lease to several.
const TROUBLE_MAX: Duration = LEASE.saturating_mul(4);
/// Time between two outages of the broker itself.
const OUTAGE_EVERY: Duration = Duration::from_secs(25);
/// Length of such an outage.
const OUTAGE: Duration = Duration::from_secs(4);
/// Places for relays.
pub(crate) const SLOTS: usize = 3;

/// Disturbs the relays until it is stopped; afterwards nothing is disturbed any more, and every place has its relay.
pub(crate) async fn disturb(
    relays: &mut Relays,
    connection: &mut PgConnection,
    random: &mut StdRng,
    broker: Option<&Server>,
    stop: &CancellationToken,
) -> Result<()> {
    let mut heal_at = [None; SLOTS];
    let mut outage_at = Instant::now() + OUTAGE_EVERY;
    for slot in 0..random.random_range(1..=SLOTS) {
        relays.start(slot, false)?;
    }
    while !stop.is_cancelled() {
        let pause = Duration::from_millis(random.random_range(PAUSE_MILLIS));
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        relays.ensure_alive()?;
        let now = Instant::now();
        for (slot, due) in heal_at.iter_mut().enumerate() {
            if due.is_some_and(|due| due <= now) {
                heal(relays, slot, random).await?;
                *due = None;
            }
        }
        // Most faults are for whoever has most to lose.
        let (anyone, aims) = (random.random_range(0..SLOTS), random.random_bool(0.6));
        let slot =
            relays.owning_slot(connection).await?.filter(|slot| aims && *slot < SLOTS).unwrap_or(anyone);
        make_fault(relays, slot, random).await?;
        if heal_at[slot].is_none() {
            heal_at[slot] = Some(now + TROUBLE_MAX.mul_f64(random.random_range(0.05..1.0)));
        }
        if let Some(broker) = broker.filter(|_| outage_at <= now) {
            broker.stop().await?;
            tokio::time::sleep(OUTAGE).await;
            broker.start().await?;
            relays.count("broker stopped");
            outage_at = Instant::now() + OUTAGE_EVERY;
        }
    }
    for slot in 0..SLOTS {
        heal(relays, slot, random).await?;
    }
    Ok(())
}

/// Often a second trouble meets a place that is in trouble already: a relay is killed while its acknowledgements are under
/// way, or frozen without a broker.
async fn make_fault(relays: &mut Relays, slot: usize, random: &mut StdRng) -> Result<()> {
    if !relays.is_running(slot) {
        return relays.start(slot, random.random_bool(0.5));
    }
    match random.random_range(0..10) {
        0..3 => relays.kill(slot).await,
        3..5 if !relays.is_frozen(slot) => relays.freeze(slot).await,
        5 if relays.is_up(slot) && !relays.is_frozen(slot) => relays.stop(slot).await,
        _ => {
            let line = match random.random_range(0..4) {
                0 => Line::Frozen,
                1 => Line::Cut,
                _ => Line::Slow,
            };
            relays.set_line(slot, line);
            Ok(())
        }
    }
}

async fn heal(relays: &mut Relays, slot: usize, random: &mut StdRng) -> Result<()> {
    relays.set_line(slot, Line::Up);
    relays.thaw(slot).await?;
    relays.start(slot, random.random_bool(0.5))
}
