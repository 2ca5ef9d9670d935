//! A TCP proxy whose connections can be cut or frozen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Bytes that are passed on at once.
const BUFFER_BYTES: usize = 65_536;
/// What passes a slow line at once, and the pause after it.
const SLOW_BYTES: usize = 512;
const SLOW_PAUSE: Duration = Duration::from_millis(5);

/// What becomes of what passes through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything passes.
    Up,
    /// What clients send passes slowly, a little at a time, so that answers to requests that were sent together come far
    /// apart.
    Slow,
    /// Connections stay open and carry nothing.
    Frozen,
    /// Connections are closed and refused.
    Cut,
}

/// See the module; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect, on the loopback address.
    pub port: u16,
    line: watch::Sender<Line>,
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Forwards to `target`. What the server says about itself is changed so that clients stay with the proxy: brokers
    /// tell their clients the address that they want to be called at.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (line, watched) = watch::channel(Line::Up);
        let names = Arc::new(Names::new(target, port));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *watched.borrow() == Line::Cut {
                    continue;
                }
                let (names, watched) = (Arc::clone(&names), watched.clone());
                connections.spawn(async move {
                    // A broken connection is what this is for.
                    let _ = forward(client, target, &names, watched).await;
                });
            }
        });
        Ok(Self { port, line, task: task.abort_handle() })
    }

    /// Changes all connections at once, and those to come.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

/// `<length>127.0.0.1<port>` as in Kafka's metadata, before and after.
struct Names {
    server: Vec<u8>,
    proxy: Vec<u8>,
}

impl Names {
    fn new(target: SocketAddr, port: u16) -> Self {
        let name = |port: u16| [target.ip().to_string().as_bytes(), &u32::from(port).to_be_bytes()].concat();
        Self { server: name(target.port()), proxy: name(port) }
    }

    fn replace(&self, bytes: &mut [u8]) {
        let mut at = 0;
        while at + self.server.len() <= bytes.len() {
            if bytes[at..].starts_with(&self.server) {
                bytes[at..at + self.proxy.len()].copy_from_slice(&self.proxy);
            }
            at += 1;
        }
    }
}

async fn forward(
    client: TcpStream,
    target: SocketAddr,
    names: &Names,
    mut line: watch::Receiver<Line>,
) -> Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut upward, mut downward) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let state = *line.borrow_and_update();
        match state {
            Line::Cut => return Ok(()),
            Line::Frozen => line.changed().await?,
            Line::Up | Line::Slow => tokio::select! {
                changed = line.changed() => changed?,
                read = from_client.read(&mut upward[..portion(state)]) => match read? {
                    0 => return Ok(()),
                    length => {
                        to_server.write_all(&upward[..length]).await?;
                        if state == Line::Slow {
                            tokio::time::sleep(SLOW_PAUSE).await;
                        }
                    }
                },
                read = from_server.read(&mut downward) => match read? {
                    0 => return Ok(()),
                    length => {
                        names.replace(&mut downward[..length]);
                        to_client.write_all(&downward[..length]).await?;
                    }
                },
            },
        }
    }
}

fn portion(line: Line) -> usize {
    if line == Line::Slow { SLOW_BYTES } else { BUFFER_BYTES }
}
