//! Does a server answer? Each probe speaks the first bytes of the server's own protocol, so that "up" means ready and not just
//! listening; and no client library is needed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::state::digest;

/// An idle server on the same machine answers in a millisecond; a busy one gets this long.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Below every system's ephemeral ports (Linux from 32768, macOS from 49152). While a server is stopped, a client's outgoing connection
/// could otherwise be given the very port it tries to reach, connect to itself, and keep the server from coming back.
const FIRST_PORT: u64 = 20_000;
const PORT_COUNT: u64 = 12_000;

/// Ports that nobody listens on, always the same for a repository as long as they are free.
pub(super) fn free_ports<const N: usize>(root: &Path) -> Result<[u16; N]> {
    let start = digest(root.as_os_str().as_encoded_bytes()) % PORT_COUNT;
    let free: Vec<u16> = (0..PORT_COUNT)
        .filter_map(|step| u16::try_from(FIRST_PORT + (start + step) % PORT_COUNT).ok())
        .filter(|port| is_free(*port))
        .take(N)
        .collect();
    match <[u16; N]>::try_from(free) {
        Ok(ports) => Ok(ports),
        Err(free) => bail!("only {} free ports on 127.0.0.1", free.len()),
    }
}

/// Whether a server can listen on this port.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether the broker is in the cluster: only then does it list itself. It listens, and answers less, a moment before.
pub(super) fn kafka_answers(port: u16) -> bool {
    kafka_brokers(port).is_ok_and(|count| count > 0)
}

/// Whether PostgreSQL lets a session in; while it starts or recovers it answers with an error.
pub(super) fn postgres_answers(socket: &Path) -> bool {
    postgres_first_byte(socket).is_ok_and(|kind| kind == b'R')
}

pub(super) fn redis_answers(port: u16) -> bool {
    redis_ping(port).is_ok_and(|answer| &answer == b"+PONG")
}

/// Asks for `Metadata` version 4 without topics, and reads the number of brokers.
fn kafka_brokers(port: u16) -> std::io::Result<u32> {
    const REQUEST: &[u8] = &[
        0, 0, 0, 15, // size of what follows
        0, 3, 0, 4, // Metadata, version 4
        0, 0, 0, 1, // correlation id
        255, 255, // no client id
        0, 0, 0, 0, // no topics
        0, // do not create topics
    ];
    let mut connection = connect(port)?;
    connection.write_all(REQUEST)?;
    // Size, correlation id, throttle time, then the array of brokers.
    let mut answer = [0; 16];
    connection.read_exact(&mut answer)?;
    let [.., a, b, c, d] = answer;
    Ok(u32::from_be_bytes([a, b, c, d]))
}

fn postgres_first_byte(socket: &Path) -> std::io::Result<u8> {
    const PARAMETERS: &[u8] = b"user\0commerce\0database\0commerce\0\0";
    const PROTOCOL: [u8; 4] = [0, 3, 0, 0];
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(ANSWER_WAIT))?;
    connection.set_write_timeout(Some(ANSWER_WAIT))?;
    let size = u32::try_from(PARAMETERS.len() + 8).map_err(std::io::Error::other)?;
    connection.write_all(&[&size.to_be_bytes(), &PROTOCOL, PARAMETERS].concat())?;
    let mut kind = [0];
    connection.read_exact(&mut kind)?;
    // `Terminate`: without it the server logs a lost connection.
    connection.write_all(b"X\0\0\0\x04")?;
    let [kind] = kind;
    Ok(kind)
}

fn redis_ping(port: u16) -> std::io::Result<[u8; 5]> {
    let mut connection = connect(port)?;
    connection.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    connection.read_exact(&mut answer)?;
    Ok(answer)
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ANSWER_WAIT)?;
    connection.set_read_timeout(Some(ANSWER_WAIT))?;
    connection.set_write_timeout(Some(ANSWER_WAIT))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_not_ephemeral_and_the_same_next_time() {
        let root = Path::new("/some/repository");
        let ports: [u16; 4] = free_ports(root).unwrap();
        assert!(ports.iter().all(|port| (20_000..32_000).contains(port)));
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(free_ports::<4>(root).unwrap(), ports);
    }

    #[test]
    fn a_port_with_a_listener_is_passed_over() {
        let root = Path::new("/another/repository");
        let [taken] = free_ports(root).unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        assert!(!is_free(taken));
        let [next] = free_ports(root).unwrap();
        assert_ne!(next, taken);
    }

    #[test]
    fn a_port_nobody_listens_on_does_not_answer() {
        let [port] = free_ports(Path::new("/a/third/repository")).unwrap();
        assert!(!kafka_answers(port));
        assert!(!redis_answers(port));
        assert!(!postgres_answers(Path::new("/nonexistent/.s.PGSQL.1")));
    }

    #[test]
    fn a_listener_that_is_not_redis_does_not_answer_as_redis() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"-LOADING").unwrap());
        assert!(!redis_answers(port));
        server.join().unwrap();
    }
}
