//! A promise that is asked about again and again while a test goes on.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(200);

/// Does `doing` while `look` is called five times a second, and once more afterwards. What fails first ends both.
///
/// # Errors
/// The first failure of either, or that nobody came to look meanwhile.
pub async fn watched<T>(
    mut look: impl AsyncFnMut() -> anyhow::Result<()>,
    doing: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut looks = 0_u64;
    let watching = async {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(difference) = look().await {
                return difference;
            }
            looks += 1;
        }
    };
    let done = tokio::select! {
        difference = watching => return Err(difference),
        done = doing => done?,
    };
    anyhow::ensure!(looks > 0, "nobody has looked");
    look().await?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::watched;

    #[tokio::test]
    async fn what_breaks_a_promise_ends_what_is_done() {
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            anyhow::ensure!(looks.get() < 3, "broken");
            Ok(())
        };
        let outcome = watched(look, pending::<anyhow::Result<()>>()).await;
        assert_eq!((outcome.unwrap_err().to_string().as_str(), looks.get()), ("broken", 3));
    }

    #[tokio::test]
    async fn what_is_broken_in_the_end_is_seen() {
        let (looks, is_broken) = (Cell::new(0), Cell::new(false));
        let look = async || {
            looks.set(looks.get() + 1);
            anyhow::ensure!(!is_broken.get(), "broken");
            Ok(())
        };
        let doing = async {
            while looks.get() == 0 {
                tokio::task::yield_now().await;
            }
            is_broken.set(true);
            Ok(())
        };
        let outcome = watched(look, doing).await;
        assert_eq!((outcome.unwrap_err().to_string().as_str(), looks.get()), ("broken", 2));
    }

    #[tokio::test]
    async fn a_test_that_nobody_has_watched_fails() {
        let outcome = watched(async || pending().await, async { Ok(()) }).await;
        assert_eq!(outcome.unwrap_err().to_string(), "nobody has looked");
    }
}
