//! A TCP proxy whose connections can be cut or frozen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

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
///
/// It runs on a thread of its own: a test that blocks its runtime, as one does that waits for a command, cuts no line.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect, on the loopback address.
    pub port: u16,
    line: watch::Sender<Line>,
}

impl Proxy {
    /// Forwards to `target`. What the server says about itself is changed so that clients stay with the proxy: brokers
    /// tell their clients the address that they want to be called at.
    ///
    /// # Errors
    /// When no port can be opened.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (line, watched) = watch::channel(Line::Up);
        let names = Arc::new(Names::new(target, port));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(serve(listener, target, names, watched)))?;
        Ok(Self { port, line })
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

/// Accepts connections until the proxy is dropped.
async fn serve(
    listener: std::net::TcpListener,
    target: SocketAddr,
    names: Arc<Names>,
    mut line: watch::Receiver<Line>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            changed = line.changed() => match changed {
                Ok(()) => continue,
                Err(_dropped) => return Ok(()),
            },
            accepted = listener.accept() => accepted,
        };
        // A client that has gone again is no reason to turn the next one away.
        let Ok((client, _)) = client else { continue };
        if *line.borrow() == Line::Cut {
            continue;
        }
        let (names, line) = (Arc::clone(&names), line.clone());
        connections.spawn(async move {
            // A broken connection is what this is for.
            let _ = forward(client, target, &names, line).await;
        });
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
    // What was sent after a change of the line does not pass as if it were before: hence a look after each read.
    while let Some(state) = carrying(&mut line).await? {
        tokio::select! {
            changed = line.changed() => changed?,
            read = from_client.read(&mut upward[..portion(state)]) => match (read?, carrying(&mut line).await?) {
                (0, _) | (_, None) => return Ok(()),
                (length, Some(state)) => {
                    to_server.write_all(&upward[..length]).await?;
                    if state == Line::Slow {
                        tokio::time::sleep(SLOW_PAUSE).await;
                    }
                }
            },
            read = from_server.read(&mut downward) => match (read?, carrying(&mut line).await?) {
                (0, _) | (_, None) => return Ok(()),
                (length, Some(_)) => {
                    names.replace(&mut downward[..length]);
                    to_client.write_all(&downward[..length]).await?;
                }
            },
        }
    }
    Ok(())
}

/// The state of a line that carries something, awaited while it is frozen; `None` once it is cut.
async fn carrying(line: &mut watch::Receiver<Line>) -> Result<Option<Line>> {
    loop {
        let state = *line.borrow_and_update();
        match state {
            Line::Cut => return Ok(None),
            Line::Frozen => line.changed().await?,
            Line::Up | Line::Slow => return Ok(Some(state)),
        }
    }
}

fn portion(line: Line) -> usize {
    if line == Line::Slow { SLOW_BYTES } else { BUFFER_BYTES }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::{Line, Proxy};

    /// Without a runtime of the test's own, so with nothing of it that a proxy could depend on.
    #[test]
    fn a_line_carries_what_a_blocked_test_sends_until_it_is_cut() -> anyhow::Result<()> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Proxy::start(server.local_addr()?)?;
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port));
        let mut client = connect()?;
        let (mut accepted, _) = server.accept()?;
        let mut carried = [0; 4];
        client.write_all(b"ping")?;
        accepted.read_exact(&mut carried)?;
        accepted.write_all(&carried)?;
        client.read_exact(&mut carried)?;
        assert_eq!(&carried, b"ping");
        proxy.set(Line::Cut);
        // Whether it says so or not: the line is gone, for those who come too.
        for mut client in [client, connect()?] {
            assert!(!matches!(client.read(&mut carried), Ok(1..)));
        }
        assert!(!matches!(accepted.read(&mut carried), Ok(1..)));
        proxy.set(Line::Up);
        let mut client = connect()?;
        let (mut accepted, _) = server.accept()?;
        client.write_all(b"pong")?;
        accepted.read_exact(&mut carried)?;
        assert_eq!(&carried, b"pong");
        Ok(())
    }
}
