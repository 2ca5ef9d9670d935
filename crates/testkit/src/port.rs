//! Ports for servers under test that must be told theirs.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// Below every system's ephemeral ports, and below those of `cargo x services`: what the system gives away by itself, to a client
/// for instance, may be gone before the server binds it.
const FIRST_PORT: u32 = 10_000;
const PORT_COUNT: u32 = 10_000;
/// How far apart two processes begin.
const STEP: u32 = 61;

/// A port on the loopback address that nobody listens on, and that this process is not given again.
///
/// # Errors
/// When none is free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() * STEP % PORT_COUNT;
    for _ in 0..PORT_COUNT {
        let port = FIRST_PORT + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORT_COUNT;
        let port = u16::try_from(port)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST_PORT} on is free on the loopback address")
}
