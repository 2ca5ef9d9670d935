//! Reads a page of a window and sends it with caution, when a record of the last session was not stored.

use sqlx::{FromRow as _, PgConnection};

use super::super::careful::{Outcome, Outcomes};
use super::super::kill::kill_point;
use super::super::session::SessionError;
use super::{OpenBatch, Reader, Streamed, Surroundings, Window, next_row};
use crate::store::parked::ParkedEvent;
use crate::store::window::{WholeEvent, WindowRead, stream_window};

/// Events that are sent in one go, and one by one when a suspect is among them or one is refused: a wait for the broker
/// each.
const CHUNK_EVENTS: usize = 200;

impl Reader<'_> {
    /// Reads as many rows as may be in flight and sends them with caution: no statement is open meanwhile, however long it
    /// takes.
    pub(super) async fn send_page(&mut self, window: &mut Window) -> Result<Streamed, SessionError> {
        let Self { around, connection, flush, .. } = self;
        let (events_max, bytes_max) =
            (around.settings.in_flight_events_max, around.settings.in_flight_bytes_max);
        let mut page = load_page(connection, window, events_max, bytes_max).await?;
        if page.is_empty() {
            return Ok(Streamed::All);
        }
        if let Some(log_end) = window.unflushed.take() {
            flush.wait_for(&log_end).await?;
        }
        while !page.is_empty() {
            let rest = page.split_off(page.len().min(CHUNK_EVENTS));
            let chunk = std::mem::replace(&mut page, rest);
            if !self.send_chunk(window, chunk).await? {
                return Ok(Streamed::Stopped);
            }
        }
        Ok(Streamed::Page)
    }

    /// Sends the events and waits for their acknowledgements; answers `false` when it was stopped before.
    async fn send_chunk(
        &mut self,
        window: &mut Window,
        chunk: Vec<WholeEvent>,
    ) -> Result<bool, SessionError> {
        let Self { around, parking, careful, .. } = self;
        kill_point("relay.before_publish");
        let published = around.stop.run_until_cancelled(careful.publish(&chunk, parking));
        let Some(Outcomes { known, error }) = published.await else { return Ok(false) };
        if known.is_empty() {
            return error.map_or(Ok(true), Err);
        }
        around.resolve(&chunk, &known);
        around.status.set_parked_keys(parking.keys());
        let (events_max, bytes_max) = (around.settings.batch_events_max, around.settings.batch_bytes_max());
        let room = around.stop.run_until_cancelled(around.tracker.open(events_max, bytes_max));
        let Some(number) = room.await else { return Ok(false) };
        let mut batch = OpenBatch::new(number);
        for (event, outcome) in chunk.into_iter().zip(known) {
            window.last_id = event.id;
            batch.contents.events += 1;
            batch.contents.bytes += event.stored().bytes();
            match outcome {
                Outcome::Published => around.tracker.acknowledged(number, 1),
                Outcome::Waiting => batch.contents.parked.push(ParkedEvent { event, refused: None }),
                Outcome::Refused(refused) => {
                    batch.contents.parked.push(ParkedEvent { event, refused: Some(refused) });
                }
            }
        }
        window.rows += batch.contents.events;
        window.batch = Some(batch);
        let progress = window.progress(window.inside());
        window.seal(around.tracker, progress);
        let Some(error) = error else { return Ok(true) };
        // What has been parked stays parked.
        around.tracker.all_parked_written().await;
        Err(error)
    }
}

impl Surroundings<'_> {
    /// Suspects among the page's events are none any more.
    pub(crate) fn resolve(&self, page: &[WholeEvent], outcomes: &[Outcome]) {
        let mut caution = self.caution.lock();
        for (event, outcome) in page.iter().zip(outcomes) {
            let is_refused = matches!(outcome, Outcome::Refused(_));
            if let Some(bytes) = caution.resolve(event.event_id, is_refused) {
                tracing::warn!(
                    bytes,
                    "no record is too large, but their requests are: they are kept smaller"
                );
            }
        }
    }
}

/// The next rows of the window, up to a number and a size.
async fn load_page(
    connection: &mut PgConnection,
    window: &Window,
    events_max: usize,
    bytes_max: usize,
) -> Result<Vec<WholeEvent>, SessionError> {
    let read = WindowRead::Page(i64::try_from(events_max).unwrap_or(i64::MAX));
    let mut rows = stream_window(connection, &window.bounds(), window.last_id, read);
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max {
        let Some(row) = next_row(&mut rows).await? else { break };
        let event = WholeEvent::from_row(&row).map_err(SessionError::Database)?;
        bytes += event.stored().bytes();
        page.push(event);
    }
    Ok(page)
}
