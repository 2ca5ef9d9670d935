//! A TCP proxy whose connections can be cut or frozen.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Up,
    /// Connections stay open and carry nothing.
    Frozen,
    /// Connections are closed and refused.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
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
    pub(crate) async fn start(target: SocketAddr) -> Result<Self> {
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

    pub(crate) fn set(&self, line: Line) {
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
    let (mut upward, mut downward) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let state = *line.borrow_and_update();
        match state {
            Line::Cut => return Ok(()),
            Line::Frozen => line.changed().await?,
            Line::Up => tokio::select! {
                changed = line.changed() => changed?,
                read = from_client.read(&mut upward) => match read? {
                    0 => return Ok(()),
                    length => to_server.write_all(&upward[..length]).await?,
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
