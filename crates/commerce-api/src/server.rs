//! The buyers' server: takes connections, and lets none of them cost more than its limits.
//!
//! Invariants: so many connections are open and no more, further ones wait in the system's queue; a client that takes its time
//! with the head of a request, or takes nothing of its answer, loses its connection; on shutdown what was accepted is answered
//! and nothing else is begun. Deliberately absent: limits of requests (`routes::guard`), and TLS, which is a proxy's business.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_layer::Layer;

/// How long nobody is accepted after the system has refused a connection for want of something, of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// The limits of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Open at once.
    pub(crate) connections_max: usize,
    /// For the head of a request, from when it may come; so an idle connection is closed after it too.
    pub(crate) head_timeout: Duration,
    /// For a client to take something of what is sent to it.
    pub(crate) send_timeout: Duration,
}

/// Serves until `shutdown`, and then until what was accepted is answered.
///
/// # Errors
/// Never; what goes wrong with a connection ends that connection.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let (open, tasks) = (GracefulShutdown::new(), TaskTracker::new());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    while let Some((place, stream, peer)) = shutdown.run_until_cancelled(accept(&listener, &places)).await {
        if let Err(error) = prepare(&stream, limits.send_timeout) {
            tracing::debug!(%error, "a connection has not all of its options");
        }
        let service = TowerToHyperService::new(Extension(ConnectInfo(peer)).layer(router.clone()));
        let connection = open.watch(http.serve_connection(TokioIo::new(stream), service));
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let place = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (place, stream, peer),
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the connection failed and not the listener.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn prepare(stream: &TcpStream, send_timeout: Duration) -> io::Result<()> {
    // Answers are small and complete: waiting to coalesce them only delays them.
    stream.set_nodelay(true)?;
    bound_sending(stream, send_timeout)
}

/// Has the system close a connection whose client takes nothing of what is sent to it for so long: it would keep its stream
/// and hold up the end of the process. Only Linux can do it.
#[cfg(target_os = "linux")]
fn bound_sending(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limit))
}

#[cfg(not(target_os = "linux"))]
fn bound_sending(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}
