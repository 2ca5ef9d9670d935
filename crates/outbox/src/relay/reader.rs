//! Reads windows and hands their rows to the producer, in batches.
//!
//! Invariant: rows of a window are sent in the order of their ids, and windows in the order of their snapshots; rows of a
//! blocked key are not sent, but parked when the position passes them.

mod page;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kafka_client::{Producer, SendError};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{FromRow as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::careful::Careful;
use super::caution::SharedCaution;
use super::flush::Flush;
use super::kill::kill_point;
use super::pace::{Found, Pace};
use super::parking::Parking;
use super::prefix::{Contents, Progress};
use super::record::RecordWriter;
use super::session::SessionError;
use super::settings::RelaySettings;
use super::status::RelayStatus;
use super::tracker::{Tracker, TrackerSink};
use super::window::{Groups, Partial, Position, Snapshot};
use crate::metrics;
use crate::nudge::Nudge;
use crate::store::parked::ParkedEvent;
use crate::store::window::{
    NextEnd, StoredEvent, WholeEvent, WindowBounds, WindowRead, connect_reader, load_next_end, stream_window,
    was_flushed,
};

/// A statement that waits longer for room is ended and begun again later: while it is open, its snapshot keeps the
/// whole server from cleaning up, and an outage of the broker may take hours.
const STALL_MAX: Duration = Duration::from_secs(1);
/// Pause before a record is offered again to a full producer.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
/// Longest wait for the answer to a poll.
const POLL_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for the next row: sorting a giant window takes a while.
const ROW_PATIENCE: Duration = Duration::from_secs(600);

/// What the reader works with besides its own state.
pub(crate) struct Surroundings<'s> {
    pub(crate) settings: &'s RelaySettings,
    pub(crate) options: &'s PgConnectOptions,
    pub(crate) producer: &'s Producer<TrackerSink>,
    pub(crate) tracker: &'s Tracker,
    pub(crate) status: &'s RelayStatus,
    pub(crate) nudge: Option<&'s Nudge>,
    pub(crate) caution: &'s SharedCaution,
    /// Ends the reader at the next place where nothing is half done.
    pub(crate) stop: &'s CancellationToken,
}

/// Reads the windows of all owned shards.
pub(crate) struct Reader<'s> {
    around: Surroundings<'s>,
    connection: PgConnection,
    groups: Groups,
    parking: Parking,
    careful: Careful,
    writer: RecordWriter,
    flush: Flush,
    pace: Pace,
    /// Rows were sent since the producer was last told that there are no more to come.
    is_lingering: bool,
    /// The window before was not the last one.
    is_behind: bool,
}

/// A window that is being read.
struct Window {
    from: Arc<Snapshot>,
    end: Arc<Snapshot>,
    shards: Arc<[i16]>,
    taken_at: Option<Instant>,
    /// Nothing may be sent before the server's log is flushed up to here.
    unflushed: Option<String>,
    /// The last row that was sent.
    last_id: i64,
    rows: usize,
    batch: Option<OpenBatch>,
}

struct OpenBatch {
    number: usize,
    contents: Contents,
}

/// Why reading rows has ended.
enum Streamed {
    All,
    /// A page was sent; there may be more.
    Page,
    Stopped,
    /// There was no room for longer than a statement may stay open.
    Stalled,
}

impl<'s> Reader<'s> {
    /// `parking` holds the keys that are blocked at the groups' positions.
    pub(crate) fn new(
        around: Surroundings<'s>,
        connection: PgConnection,
        groups: Groups,
        parking: Parking,
        careful: Careful,
    ) -> Self {
        let pace = Pace::new(around.settings.busy_pause, around.settings.idle_pause_max);
        let flush = Flush::new(around.options.clone());
        let writer = RecordWriter::new();
        Self {
            around,
            connection,
            groups,
            parking,
            careful,
            writer,
            flush,
            pace,
            is_lingering: false,
            is_behind: false,
        }
    }

    /// Reads window after window until it is stopped.
    pub(crate) async fn run(&mut self) -> Result<(), SessionError> {
        while !self.around.stop.is_cancelled() {
            let found = self.read_next().await?;
            self.is_behind = found == Found::More;
            if self.is_behind {
                self.around.producer.linger();
            } else if std::mem::take(&mut self.is_lingering) {
                self.around.producer.hurry();
            }
            let pause = self.pace.after(found);
            if !pause.is_zero() {
                self.pause(pause).await;
            }
        }
        self.around.producer.hurry();
        Ok(())
    }

    async fn read_next(&mut self) -> Result<Found, SessionError> {
        let Some(group) = self.groups.hindmost().cloned() else { return Ok(Found::Nothing) };
        let from = Arc::clone(&group.position.at);
        let polled_at = Instant::now();
        let next = poll(&mut self.connection, &from).await?;
        let next_end = Arc::new(next.snapshot.parse().map_err(SessionError::Snapshot)?);
        let end = self.groups.window_end(Arc::clone(&next_end));
        let is_last = !next.is_tick && end == next_end;
        if end == from {
            if self.around.tracker.is_empty() {
                self.around.status.published_until(polled_at);
            }
            return Ok(Found::Nothing);
        }
        let is_partial = group.position.partial.is_some();
        let age = Duration::try_from_secs_f64(next.age_seconds).unwrap_or_default();
        let mut window = Window {
            from,
            end: Arc::clone(&end),
            shards: group.shards,
            taken_at: if is_partial { None } else { polled_at.checked_sub(age) },
            // Of a tick, all that it sees is flushed.
            unflushed: next.unflushed.filter(|_| !(next.is_tick && end == next_end)),
            last_id: group.position.partial.map_or(i64::MIN, |partial| partial.last_id),
            rows: 0,
            batch: None,
        };
        let is_whole = self.read_window(&mut window).await?;
        self.is_lingering |= window.rows > 0;
        if !is_whole {
            return Ok(Found::Nothing);
        }
        self.groups.advance(end);
        if is_last {
            // The suspects that have not come by are not this relay's any more.
            self.around.caution.lock().forget();
        }
        if window.rows > 0 {
            metrics::window_read(window.rows);
        }
        let is_behind = next.is_tick || is_partial || window.rows >= self.around.settings.batch_events_max;
        Ok(if is_behind {
            Found::More
        } else if window.rows > 0 {
            Found::Some
        } else {
            Found::Nothing
        })
    }

    /// Sends all rows of the window; answers `false` when it was stopped before its end.
    async fn read_window(&mut self, window: &mut Window) -> Result<bool, SessionError> {
        loop {
            let has_suspects = self.around.caution.lock().has_suspects();
            let streamed =
                if has_suspects { self.send_page(window).await? } else { self.send_rows(window).await? };
            match streamed {
                Streamed::Page => {}
                Streamed::All => {
                    let progress = window.progress(Position::at(Arc::clone(&window.end)));
                    self.seal(window, progress).await;
                    return Ok(true);
                }
                Streamed::Stopped => {
                    if window.batch.is_some() {
                        let progress = window.progress(window.inside());
                        self.seal(window, progress).await;
                    }
                    return Ok(false);
                }
                Streamed::Stalled => {
                    let Surroundings { settings, tracker, stop, .. } = &self.around;
                    let room = tracker.wait_for_room(settings.batch_events_max, settings.batch_bytes_max());
                    // The old connection is closed only when there is room: it is the new one that ends its statement.
                    self.connection =
                        connect_reader(self.around.options).await.map_err(SessionError::Database)?;
                    if stop.run_until_cancelled(room).await.is_none() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn send_rows(&mut self, window: &mut Window) -> Result<Streamed, SessionError> {
        let Self { around, connection, parking, writer, flush, is_behind, .. } = self;
        let (events_max, bytes_max) = (around.settings.batch_events_max, around.settings.batch_bytes_max());
        let read = if parking.keys() > 0 { WindowRead::Whole } else { WindowRead::Sent };
        let mut rows = stream_window(connection, &window.bounds(), window.last_id, read);
        loop {
            let Some(row) = next_row(&mut rows).await? else { return Ok(Streamed::All) };
            if let Some(log_end) = window.unflushed.take()
                && !was_flushed(&row).map_err(SessionError::Database)?
            {
                flush.wait_for(&log_end).await?;
            }
            let event = StoredEvent::from_row(&row).map_err(SessionError::Database)?;
            if window.batch.is_none() {
                if around.stop.is_cancelled() {
                    return Ok(Streamed::Stopped);
                }
                let opened = around.stop.run_until_cancelled(tokio::time::timeout(
                    STALL_MAX,
                    around.tracker.open(events_max, bytes_max),
                ));
                match opened.await {
                    None => return Ok(Streamed::Stopped),
                    Some(Err(_)) => return Ok(Streamed::Stalled),
                    Some(Ok(number)) => window.batch = Some(OpenBatch::new(number)),
                }
                kill_point("relay.before_publish");
            }
            let Some(batch) = &mut window.batch else { continue };
            if parking.blocks(event.topic, event.partition_key) {
                let event = WholeEvent::from_row(&row).map_err(SessionError::Database)?;
                batch.contents.parked.push(ParkedEvent { event, refused: None });
            } else {
                send(around, writer, &event, batch.number).await?;
            }
            window.last_id = event.id;
            window.rows += 1;
            // Most windows are the last one, and told so early the producer is awake by their end.
            if window.rows == 1 && !*is_behind {
                around.producer.hurry();
            }
            batch.contents.events += 1;
            batch.contents.bytes += event.bytes();
            if batch.contents.events >= events_max || batch.contents.bytes >= bytes_max {
                let progress = window.progress(window.inside());
                window.seal(around.tracker, progress);
            }
        }
    }

    /// Ends the batch that is open, or an empty one, with this progress.
    async fn seal(&self, window: &mut Window, progress: Progress) {
        if window.batch.is_none() {
            let number = self.around.tracker.open(0, 0).await;
            window.batch = Some(OpenBatch { number, contents: Contents::default() });
        }
        window.seal(self.around.tracker, progress);
    }

    async fn pause(&self, pause: Duration) {
        let Surroundings { settings, nudge, stop, .. } = &self.around;
        // A nudge does not shorten the busy pause: under load there is one for each commit.
        let busy = pause.min(settings.busy_pause);
        tokio::time::sleep(busy).await;
        // A sleep of nothing would take a millisecond, tokio's shortest.
        if pause == busy {
            return;
        }
        let rest = tokio::time::sleep(pause - busy);
        match nudge {
            Some(nudge) => tokio::select! {
                () = rest => {}
                () = nudge.notified() => {}
                () = stop.cancelled() => {}
            },
            None => {
                stop.run_until_cancelled(rest).await;
            }
        }
    }
}

impl OpenBatch {
    fn new(number: usize) -> Self {
        Self { number, contents: Contents { begun_at: Some(Instant::now()), ..Contents::default() } }
    }
}

impl Window {
    fn bounds(&self) -> WindowBounds {
        WindowBounds {
            first_txid: self.from.xmax().to_string(),
            end_txid: self.end.xmax().to_string(),
            running: self.from.running().iter().map(u64::to_string).collect(),
            end: self.end.to_string(),
            shards: self.shards.to_vec(),
            unflushed: self.unflushed.clone(),
        }
    }

    fn inside(&self) -> Position {
        let partial = Partial { end: Arc::clone(&self.end), last_id: self.last_id };
        Position { at: Arc::clone(&self.from), partial: Some(partial) }
    }

    fn progress(&self, position: Position) -> Progress {
        let taken_at = if position.partial.is_none() { self.taken_at } else { None };
        Progress { shards: Arc::clone(&self.shards), position, taken_at }
    }

    fn seal(&mut self, tracker: &Tracker, progress: Progress) {
        if let Some(batch) = self.batch.take() {
            tracker.seal(batch.number, batch.contents, progress);
        }
    }
}

async fn poll(connection: &mut PgConnection, from: &Snapshot) -> Result<NextEnd, SessionError> {
    match tokio::time::timeout(POLL_PATIENCE, load_next_end(connection, &from.to_string())).await {
        Ok(answer) => answer.map_err(SessionError::Database),
        Err(_) => Err(SessionError::Silent("a poll")),
    }
}

type Rows<'c> = BoxStream<'c, Result<PgRow, sqlx::Error>>;

async fn next_row(rows: &mut Rows<'_>) -> Result<Option<PgRow>, SessionError> {
    match tokio::time::timeout(ROW_PATIENCE, rows.next()).await {
        Ok(row) => row.transpose().map_err(SessionError::Database),
        Err(_) => Err(SessionError::Silent("the rows of a window")),
    }
}

async fn send(
    around: &Surroundings<'_>,
    writer: &mut RecordWriter,
    event: &StoredEvent<'_>,
    batch: usize,
) -> Result<(), SessionError> {
    let (id, event_id) = (event.id, event.event_id);
    loop {
        let sent =
            writer.write(event, |record| around.producer.try_send(record, batch)).map_err(|error| {
                around.caution.lock().suspect(event_id, false);
                SessionError::Headers { id, error }
            })?;
        match sent {
            Ok(()) => return Ok(()),
            Err(SendError::QueueFull) => tokio::time::sleep(QUEUE_PAUSE).await,
            Err(error) => {
                // Of one record, so nothing is said about the size of requests.
                around.caution.lock().suspect(event_id, false);
                return Err(SessionError::Send { id, error });
            }
        }
    }
}
