//! The body of an HTTP message that came in chunks.

use std::borrow::Cow;

/// The message with its body in one piece, if it came in chunks: where they end means nothing (RFC
/// 9112, section 7.1), and a proxy may cut the same body differently each time. Anything else is as
/// it is.
pub fn without_chunks(message: &[u8]) -> Cow<'_, [u8]> {
    joined(message).map_or(Cow::Borrowed(message), Cow::Owned)
}

fn joined(message: &[u8]) -> Option<Vec<u8>> {
    let body = message.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let is_chunked = message[..body].split(|byte| *byte == b'\n').any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with(b"transfer-encoding:") && line.trim_ascii().ends_with(b"chunked")
    });
    if !is_chunked {
        return None;
    }
    let (mut joined, mut rest) = (message[..body].to_vec(), &message[body..]);
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
            assert_eq!(without_chunks(message.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn anything_else_is_as_it_is() {
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned();
        let broken = ["", "5\r\nhel", "x\r\n", "5\r\nhelloo\r\n", "ffffffffffffffff\r\nx"];
        let broken = broken.map(|body| format!("{HEAD}{body}"));
        for message in broken.into_iter().chain([plain]) {
            assert_eq!(without_chunks(message.as_bytes()), message.as_bytes());
        }
    }
}
