//! As much of HTTP/1.1 as mock and load client need: heads, and bodies with a length or in chunks. Works on bytes that
//! were read and never waits. What it does not know it refuses, so that nothing is measured that was not understood.

use memchr::memmem;

/// Header lines that a head may have.
const HEADERS_MAX: usize = 64;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead<'a> {
    pub(crate) bytes: usize,
    pub(crate) path: &'a str,
    pub(crate) authorization: &'a str,
    pub(crate) framing: Framing,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) bytes: usize,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
}

/// What was read is no message that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

impl From<httparse::Error> for Malformed {
    fn from(error: httparse::Error) -> Self {
        Self(error.to_string())
    }
}

/// The head at the start of `read`; `None` when it is not whole yet.
pub(crate) fn request_head(read: &[u8]) -> Result<Option<RequestHead<'_>>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(bytes) = request.parse(read)? else { return Ok(None) };
    let authorization = find(request.headers, "authorization").or(find(request.headers, "x-api-key"));
    let framing = framing(request.headers)?.unwrap_or(Framing::Length(0));
    let path = request.path.unwrap_or_default();
    Ok(Some(RequestHead { bytes, path, authorization: authorization.unwrap_or_default(), framing }))
}

/// The head at the start of `read`; `None` when it is not whole yet. An answer that ends with its connection is refused:
/// it cannot be told from one that was cut.
pub(crate) fn response_head(read: &[u8]) -> Result<Option<ResponseHead>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = response.parse(read)? else { return Ok(None) };
    let Some(framing) = framing(response.headers)? else {
        return Err(Malformed("an answer with neither length nor chunks".to_owned()));
    };
    Ok(Some(ResponseHead { bytes, status: response.code.unwrap_or_default(), framing }))
}

fn find<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

fn framing(headers: &[httparse::Header<'_>]) -> Result<Option<Framing>, Malformed> {
    if let Some(coding) = find(headers, "transfer-encoding") {
        return match coding {
            "chunked" => Ok(Some(Framing::Chunked)),
            other => Err(Malformed(format!("transfer-encoding {other}"))),
        };
    }
    let Some(length) = find(headers, "content-length") else { return Ok(None) };
    length
        .parse()
        .map(|length| Some(Framing::Length(length)))
        .map_err(|_| Malformed(format!("content-length {length}")))
}

/// Takes a body out of its chunks, in pieces as they come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// A line with a size comes next.
    #[default]
    Size,
    /// So many bytes of the chunk are left, its line end apart.
    Data(usize),
    /// The line end of a chunk comes next.
    LineEnd,
    /// The last chunk was there; trailers may follow, and an empty line.
    Trailers,
    Done,
}

impl Chunked {
    /// Takes what it can from the start of `read`, gives every piece of the body to `data`, and tells how many bytes it
    /// took. The rest must be given again, with what is read next.
    pub(crate) fn take(&mut self, read: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut at = 0;
        loop {
            let rest = &read[at..];
            match *self {
                // An empty line is a size of 0 to the parser, and would end the body.
                Self::Size if rest.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(Malformed("no size of a chunk".to_owned()));
                }
                Self::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        at += line;
                        let size = usize::try_from(size).map_err(|_| Malformed("a huge chunk".to_owned()))?;
                        *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                    }
                    Ok(httparse::Status::Partial) => return Ok(at),
                    Err(_) => return Err(Malformed("no size of a chunk".to_owned())),
                },
                Self::Data(left) => {
                    let piece = left.min(rest.len());
                    if piece == 0 {
                        return Ok(at);
                    }
                    data(&rest[..piece]);
                    at += piece;
                    *self = if piece == left { Self::LineEnd } else { Self::Data(left - piece) };
                }
                Self::LineEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(at),
                    _ => return Err(Malformed("a chunk that is longer than its size".to_owned())),
                },
                Self::Trailers => match memmem::find(rest, b"\r\n") {
                    Some(0) => {
                        *self = Self::Done;
                        return Ok(at + 2);
                    }
                    Some(line) => at += line + 2,
                    None => return Ok(at),
                },
                Self::Done => return Ok(at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        let whole = "POST /v1/messages HTTP/1.1\r\nX-Api-Key: k\r\nContent-Length: 12\r\n\r\nrest";
        let want = RequestHead {
            bytes: whole.len() - 4,
            path: "/v1/messages",
            authorization: "k",
            framing: Framing::Length(12),
        };
        assert_eq!(request_head(whole.as_bytes()), Ok(Some(want)));
        assert_eq!(request_head(&whole.as_bytes()[..30]), Ok(None));
        let answer = b"HTTP/1.1 429 Too Many\r\nTransfer-Encoding: chunked\r\n\r\n";
        let want = ResponseHead { bytes: answer.len(), status: 429, framing: Framing::Chunked };
        assert_eq!(response_head(answer), Ok(Some(want)));
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(response_head(answer.as_bytes()).is_err(), "{answer}");
        }
    }

    #[test]
    fn chunks_are_taken_wherever_the_bytes_are_cut() {
        let wire = b"5\r\nhello\r\nb;x=y\r\n, all of it\r\n0\r\nx-sum: 1\r\n\r\nnext";
        for cut in 0..=wire.len() {
            let (mut chunked, mut body, mut given) = (Chunked::default(), Vec::new(), Vec::new());
            for part in [&wire[..cut], &wire[cut..]] {
                given.extend_from_slice(part);
                let taken = chunked.take(&given, |piece| body.extend_from_slice(piece)).unwrap();
                given.drain(..taken);
            }
            assert_eq!(
                (chunked, body.as_slice(), given.as_slice()),
                (Chunked::Done, &b"hello, all of it"[..], &b"next"[..]),
                "{cut}"
            );
        }
    }

    #[test]
    fn chunks_that_lie_are_refused() {
        for wire in [&b"5\r\nhello!\r\n"[..], b"x\r\n", b"\r\n\r\n"] {
            assert!(Chunked::default().take(wire, |_| ()).is_err(), "{wire:?}");
        }
    }
}
