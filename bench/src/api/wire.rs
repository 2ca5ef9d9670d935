//! HTTP/1.1 with as little work as can be: the client shares its cores with the server, and what it costs blurs what it measures.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Headers of an answer.
const HEADERS_MAX: usize = 32;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1_024;

/// A request as it goes on the wire.
pub(crate) struct Request(Vec<u8>);

/// A connection that is kept; one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Request {
    /// Without a body.
    pub(crate) fn new(method: &str, path: &str, user: i64) -> Self {
        Self(format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nx-user-id: {user}\r\n\r\n").into_bytes())
    }

    /// With a JSON body.
    pub(crate) fn post(path: &str, user: i64, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nx-user-id: {user}\r\ncontent-type: application/json"
        );
        Self(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a request, reads its answer whole and hands out the body; a refusal is an error.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<&[u8]> {
        self.stream.write_all(&request.0).await?;
        self.received.clear();
        loop {
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the connection was closed");
            if let Some((status, body)) = read_head(&self.received)? {
                while self.received.len() < body.end {
                    let read = self.stream.read_buf(&mut self.received).await?;
                    ensure!(read > 0, "the connection was closed");
                }
                ensure!((200..300).contains(&status), "{}", String::from_utf8_lossy(&self.received));
                return self.received.get(body).context("no body");
            }
        }
    }
}

/// Status of an answer and where its body is, once its head is complete.
fn read_head(received: &[u8]) -> Result<Option<(u16, Range<usize>)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(received)? else { return Ok(None) };
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body: usize = std::str::from_utf8(length.context("no content-length")?.value)?.parse()?;
    Ok(Some((answer.code.context("no status")?, head..head + body)))
}

#[cfg(test)]
mod tests {
    use super::read_head;

    #[test]
    fn an_answer_is_as_long_as_its_head_says() {
        let head = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(read_head(&head.as_bytes()[..20]).unwrap(), None);
        let body = head.len()..head.len() + 5;
        assert_eq!(read_head(format!("{head}he").as_bytes()).unwrap(), Some((201, body)));
        assert!(read_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "its length is not known");
    }
}
