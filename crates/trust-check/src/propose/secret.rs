//! Recognises requests that have a password in them.

/// Whether a request is one that usually has a password, or another proof of who asks: `AUTH` and
/// `PASS`, Redis' `AUTH` and `HELLO … AUTH`, PostgreSQL's PasswordMessage, and the Authorization of
/// HTTP.
pub fn is_secret(request: &[u8]) -> bool {
    is_password_message(request) || is_resp(request) || is_http(request) || is_command(request)
}

/// A line of a text protocol.
fn is_command(request: &[u8]) -> bool {
    let mut lines = request.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty());
        word.is_some_and(|word| ["AUTH", "PASS"].iter().any(|it| is(word, it)))
    })
}

fn is_resp(request: &[u8]) -> bool {
    let mut words = request.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    request.starts_with(b"*") && words.any(|word| is(word, "AUTH"))
}

/// A message of type `p` (PostgreSQL, 55.7): its length counts itself.
fn is_password_message(request: &[u8]) -> bool {
    let Some((b'p', rest)) = request.split_first() else { return false };
    let len = rest.first_chunk().map(|len| u32::from_be_bytes(*len) as usize);
    len.is_some_and(|len| len >= size_of::<u32>() && len <= rest.len())
}

fn is_http(request: &[u8]) -> bool {
    let names = ["Authorization", "Proxy-Authorization"];
    let lines = request.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::trim_ascii);
    let mut head = lines.take_while(|line| !line.is_empty());
    head.any(|line| {
        let colon = line.iter().position(|byte| *byte == b':');
        colon.is_some_and(|colon| names.iter().any(|name| is(&line[..colon], name)))
    })
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_with_a_password_are_recognised() {
        let secret: [&[u8]; 8] = [
            b"AUTH sesame\r\n",
            b"auth PLAIN AGEAYg==\r\n",
            b"USER me\r\nPASS sesame\r\n",
            b"*2\r\n$4\r\nAUTH\r\n$6\r\nsesame\r\n",
            b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nauth\r\n$1\r\na\r\n$1\r\nb\r\n",
            b"p\0\0\0\x0bsesame\0",
            b"GET / HTTP/1.1\r\nHost: a\r\nauthorization: Basic YTpi\r\n\r\n",
            b"GET / HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\n",
        ];
        for request in secret {
            assert!(is_secret(request), "{}", request.escape_ascii());
        }
    }

    #[test]
    fn other_requests_are_not_secret() {
        let open: [&[u8]; 7] = [
            b"",
            b"PING\r\n",
            b"PASSIVE\r\n",
            b"*2\r\n$4\r\nECHO\r\n$7\r\nAUTHORS\r\n",
            b"ping\r\n",
            b"GET / HTTP/1.1\r\n\r\nAuthorization: in the body",
            b"p\xff\xff\xff\xffx",
        ];
        for request in open {
            assert!(!is_secret(request), "{}", request.escape_ascii());
        }
    }
}
