//! A request as an input writes it.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::first_line;

/// Headers of one request; more are what the server's HTTP refuses.
const HEADERS_MAX: usize = 64;

/// What is asked.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    body: &'a [u8],
}

impl<'a> Asked<'a> {
    /// `METHOD /path`; `None` for what the server's HTTP refuses before us.
    pub(super) fn of_line(line: &[u8]) -> Option<Self> {
        let end = line.iter().position(|byte| *byte == b' ')?;
        Self::of_path(Method::from_bytes(&line[..end]).ok()?, &line[end + 1..])
    }

    pub(super) fn of_path(method: Method, path: &[u8]) -> Option<Self> {
        let uri =
            Uri::try_from(path).ok().filter(|uri| uri.host().is_none() && uri.path().starts_with('/'))?;
        Some(Self { method, uri, headers: Vec::new(), body: &[] })
    }

    /// A line, lines of headers, an empty line, the body.
    pub(super) fn of_request(input: &'a [u8]) -> Option<Self> {
        let (line, mut rest) = first_line(input);
        let mut asked = Self::of_line(line)?;
        loop {
            let (line, behind) = first_line(rest);
            rest = behind;
            if line.is_empty() {
                break;
            }
            let end = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..end]).ok()?;
            let value = HeaderValue::from_bytes(line[end + 1..].trim_ascii()).ok()?;
            asked.headers.push((name, value));
            if asked.headers.len() > HEADERS_MAX {
                return None;
            }
        }
        Some(asked.body(rest))
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
        self
    }

    pub(super) fn body(self, body: &[u8]) -> Asked<'_> {
        Asked { body, ..self }
    }

    pub(super) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.to_vec()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        request
    }
}
