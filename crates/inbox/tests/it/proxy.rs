//! A PostgreSQL socket that swallows the answer to a commit and hangs up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The end of a simple query that commits.
const COMMIT: &[u8] = b"commit\0";

/// Passes everything on, except for answers to the commits that are to be swallowed.
pub(crate) struct Proxy {
    directory: PathBuf,
    port: u16,
    /// Commits whose answers are still to be swallowed.
    pub(crate) swallow: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: &PgConnectOptions) -> Result<Self> {
        let port = server.get_port();
        let socket = format!(".s.PGSQL.{port}");
        let target = server.get_socket().context("the server has a socket")?.join(&socket);
        let directory = std::env::temp_dir().join(testkit::unique("pg"));
        tokio::fs::create_dir(&directory).await?;
        let listener = UnixListener::bind(directory.join(&socket))?;
        let swallow = Arc::<AtomicUsize>::default();
        let task = tokio::spawn(accept(listener, target, Arc::clone(&swallow)));
        Ok(Self { directory, port, swallow, task })
    }

    pub(crate) fn options(&self, server: PgConnectOptions) -> PgConnectOptions {
        server.port(self.port).socket(&self.directory)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn accept(listener: UnixListener, target: PathBuf, swallow: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let (target, swallow) = (target.clone(), Arc::clone(&swallow));
        tokio::spawn(async move {
            // The end of either side is the end of both.
            let _ = pass(client, &target, &swallow).await;
        });
    }
}

async fn pass(mut client: UnixStream, target: &Path, swallow: &AtomicUsize) -> Result<()> {
    let mut server = UnixStream::connect(target).await?;
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                anyhow::ensure!(!bytes.is_empty(), "client hung up");
                server.write_all(bytes).await?;
                let is_commit = bytes.windows(COMMIT.len()).any(|window| window.eq_ignore_ascii_case(COMMIT));
                let decrease = |left: usize| left.checked_sub(1);
                if is_commit && swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, decrease).is_ok() {
                    // The server has committed when it answers.
                    let _ = server.read(&mut answered).await?;
                    return Ok(());
                }
            }
            read = server.read(&mut answered) => {
                let bytes = &answered[..read?];
                anyhow::ensure!(!bytes.is_empty(), "server hung up");
                client.write_all(bytes).await?;
            }
        }
    }
}
