//! The body of an HTTP message, however its length is told.

use std::borrow::Cow;

/// The message with its body in one piece and without its length. Where chunks end means nothing
/// (RFC 9112, section 7.1), and a proxy may cut the same body differently each time.
/// `Content-Length` differs with what may differ in the body: a number with a digit more.
pub fn without_lengths(message: &[u8]) -> Cow<'_, [u8]> {
    plain(message).map_or(Cow::Borrowed(message), Cow::Owned)
}

/// `None`: as it is.
fn plain(message: &[u8]) -> Option<Vec<u8>> {
    let head = message.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let (head, body) = message.split_at(head);
    let is = |line: &[u8], name: &[u8]| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let is_chunked = head.split(|byte| *byte == b'\n').any(|line| {
        is(line, b"transfer-encoding:")
            && line.to_ascii_lowercase().trim_ascii().ends_with(b"chunked")
    });
    if is_chunked {
        return joined(head, body);
    }
    let lines = head.split_inclusive(|byte| *byte == b'\n');
    // Without a body, as after HEAD, it says something else.
    let lines = lines.filter(|line| !is(line, b"content-length:") || body.is_empty());
    let kept = lines.collect::<Vec<_>>().concat();
    (kept.len() < head.len()).then(|| [&kept, body].concat())
}

fn joined(head: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let (mut joined, mut rest) = (head.to_vec(), body);
    loop {
        let end = rest.windows(2).position(|it| it == b"\r\n")?;
        let size = rest[..end].split(|byte| *byte == b';').next()?.trim_ascii();
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            joined.extend_from_slice(rest);
            return Some(joined);
        }
        joined.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n";

    #[test]
    fn the_same_body_in_other_chunks_is_the_same() {
        let one = format!("{HEAD}5\r\nhello\r\n0\r\nX: y\r\n\r\n");
        let other = format!("{HEAD}2;a=b\r\nhe\r\n003\r\nllo\r\n0\r\nX: y\r\n\r\n");
        let expected = format!("{HEAD}helloX: y\r\n\r\n");
        for message in [one, other] {
            assert_eq!(without_lengths(message.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn the_length_of_a_body_is_left_out() {
        let message = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX: y\r\n\r\nhello";
        assert_eq!(&*without_lengths(message), b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello");
    }

    #[test]
    fn anything_else_is_as_it_is() {
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_owned();
        let broken = ["", "5\r\nhel", "x\r\n", "5\r\nhelloo\r\n", "ffffffffffffffff\r\nx"];
        let broken = broken.map(|body| format!("{HEAD}{body}"));
        for message in broken.into_iter().chain([plain]) {
            assert_eq!(without_lengths(message.as_bytes()), message.as_bytes());
        }
    }
}
