//! Requests and responses of HTTP/1.1 (RFC 9112).
//!
//! Sections are those of RFC 9112, unless another is named.

use core::ops::Range;

use super::Found;
use super::cursor::{Cursor, Declared, decimal};

/// What the fields of a message say about its body (section 6.3).
#[derive(Debug, Default)]
struct BodyFields {
    /// Whether the last transfer coding is `chunked`; `None` if there is none.
    is_chunked: Option<bool>,
    /// The `Content-Length`, or the place of a value that is none or another one.
    length: Option<Result<u64, usize>>,
    /// How often the length is there.
    lengths: usize,
    /// Where the last of them is.
    length_at: Range<usize>,
}

/// Where a whole request declares the length of its body, if in one place and nowhere else.
pub(super) fn declared(request: &[u8]) -> Option<Declared> {
    let mut cursor = Cursor::new(request);
    let fields = skip_request_head(&mut cursor).ok()?;
    let is_declared = fields.lengths == 1 && fields.is_chunked.is_none();
    is_declared.then(|| Declared { field: fields.length_at, payload: cursor.at()..request.len() })
}

/// Moves past a request.
pub(super) fn skip_request(cursor: &mut Cursor<'_>) -> Result<(), Found> {
    match skip_request_head(cursor)? {
        BodyFields { is_chunked: Some(true), .. } => skip_chunks(cursor),
        // A server cannot know where it ends, and must refuse it.
        BodyFields { is_chunked: Some(false), .. } => Err(cursor.wrong_before()),
        BodyFields { length: Some(length), .. } => skip_length(cursor, length),
        BodyFields { length: None, .. } => Ok(()),
    }
}

/// Moves past a request line (section 3) with the empty lines before it, and past the fields.
fn skip_request_head(cursor: &mut Cursor<'_>) -> Result<BodyFields, Found> {
    // Some clients send an extra empty line after a body (section 2.2).
    while matches!(cursor.peek()?, b'\r' | b'\n') {
        cursor.skip_line_end()?;
    }
    cursor.skip_some(is_token)?;
    cursor.expect(b" ")?;
    cursor.skip_some(|byte| byte > b' ' && byte != 0x7f)?;
    cursor.expect(b" HTTP/1.")?;
    cursor.digit(10)?;
    cursor.skip_line_end()?;
    skip_fields(cursor)
}

/// Moves past the response to a request, and past interim responses before it.
pub(super) fn skip_response(cursor: &mut Cursor<'_>, request: &[u8]) -> Result<(), Found> {
    let method = request.trim_ascii_start().split(|byte| *byte == b' ').next();
    loop {
        let status = skip_status_line(cursor)?;
        let fields = skip_fields(cursor)?;
        match (status, method) {
            (101 | 204 | 304, _) => return Ok(()),
            (100..=199, _) => continue,
            (_, Some(b"HEAD")) | (200..=299, Some(b"CONNECT")) => return Ok(()),
            _ => {}
        }
        return match fields {
            BodyFields { is_chunked: Some(true), .. } => skip_chunks(cursor),
            BodyFields { is_chunked: Some(false), .. } => Err(Found::AtClose),
            BodyFields { length: Some(length), .. } => skip_length(cursor, length),
            BodyFields { length: None, .. } => Err(Found::AtClose),
        };
    }
}

/// Moves past a status line (section 4), and returns the status. The space before an empty reason
/// may be missing.
fn skip_status_line(cursor: &mut Cursor<'_>) -> Result<u64, Found> {
    cursor.expect(b"HTTP/1.")?;
    cursor.digit(10)?;
    cursor.expect(b" ")?;
    let mut status = 0;
    for _ in 0..3 {
        status = 10 * status + cursor.digit(10)?;
    }
    if cursor.peek()? == b' ' {
        cursor.skip_text()?;
    }
    cursor.skip_line_end()?;
    Ok(status)
}

/// Moves past fields and the empty line after them (section 5). A line that begins with a blank
/// goes on with the value of the line before (section 5.2).
fn skip_fields(cursor: &mut Cursor<'_>) -> Result<BodyFields, Found> {
    let mut fields = BodyFields::default();
    while !matches!(cursor.peek()?, b'\r' | b'\n') {
        let name = cursor.skip_some(is_token)?;
        cursor.expect(b":")?;
        cursor.skip_while(is_blank)?;
        let start = cursor.at();
        loop {
            cursor.skip_text()?;
            cursor.skip_line_end()?;
            if !is_blank(cursor.peek()?) {
                break;
            }
        }
        let value = cursor.since(start);
        if name.eq_ignore_ascii_case(b"Transfer-Encoding") {
            fields.add_codings(value);
        } else if name.eq_ignore_ascii_case(b"Content-Length") {
            fields.add_length(value, start);
        }
    }
    cursor.skip_line_end()?;
    Ok(fields)
}

impl BodyFields {
    /// Codings of several fields are one list (section 6.1).
    fn add_codings(&mut self, value: &[u8]) {
        let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if let Some(last) = codings.find(|coding| !coding.is_empty()) {
            self.is_chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
        }
    }

    /// The same length may be there several times (section 6.3, rule 5).
    fn add_length(&mut self, value: &[u8], place: usize) {
        for element in value.split(|byte| *byte == b',') {
            let length = decimal(element.trim_ascii()).ok_or(place);
            let differs = self.length.is_some_and(|known| known != length);
            self.length = Some(if differs { Err(place) } else { length });
            self.lengths += 1;
        }
        let begin = place + value.len() - value.trim_ascii_start().len();
        self.length_at = begin..begin + value.trim_ascii().len();
    }
}

/// Moves past a body of this length, whose number may be wrong, and then has this place.
fn skip_length(cursor: &mut Cursor<'_>, length: Result<u64, usize>) -> Result<(), Found> {
    cursor.skip(length.map_err(Found::Wrong)?)
}

/// Moves past chunks, with their extensions, and the trailer fields after them (section 7.1).
/// Their lines end with CR LF.
fn skip_chunks(cursor: &mut Cursor<'_>) -> Result<(), Found> {
    loop {
        let len = cursor.number(16)?;
        cursor.skip_while(is_blank)?;
        if cursor.peek()? == b';' {
            cursor.skip_text()?;
        }
        cursor.expect(b"\r\n")?;
        if len == 0 {
            break;
        }
        cursor.skip(len)?;
        cursor.expect(b"\r\n")?;
    }
    skip_fields(cursor).map(drop)
}

/// Whether the byte can be part of a method or of a field's name (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether it is a space or a tab.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;
    use crate::MessageEnd;
    use crate::message_end::tests::{found, is_whole};

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const HEAD: &[u8] = b"\r\nHEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const CONNECT: &[u8] = b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n";

    #[track_caller]
    fn request(bytes: &[u8]) -> Found {
        found(&MessageEnd::Http, bytes, None)
    }

    /// What is found in an answer to this request.
    #[track_caller]
    fn answer(bytes: &[u8], request: &[u8]) -> Found {
        found(&MessageEnd::Http, bytes, Some(request))
    }

    #[test]
    fn a_request_ends_after_its_body_if_it_has_one() {
        let requests: [&[u8]; 16] = [
            GET,
            CONNECT,
            b"GET /\xc3\xa9?a=b&c HTTP/1.0\r\n\r\n",
            b"OPTIONS * HTTP/1.1\nHost: localhost\n\n",
            b"\r\n\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"M-SEARCH * HTTP/1.1\r\nST:\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\r\n\r\n}\n",
            b"POST /a HTTP/1.1\r\ncontent-length:2 \t\r\n\r\nhi",
            b"POST /a HTTP/1.1\r\nCONTENT-LENGTH: \t 002\n\nhi",
            b"POST /a HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2, 2\r\n\r\nhi",
            b"PUT /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            b"POST /a HTTP/1.1\r\n\
              Transfer-Encoding:\r\n\tgzip\r\nTRANSFER-ENCODING: Chunked,\r\n\r\n\
              0A ;a=\"b;c\";d\r\n0123456789\r\n000;last\r\nDigest: a\r\nX:\r\n y\r\n\r\n",
            b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: ,\r\nX-Content-Length: 7\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\r\n Content-Length: 7\r\n\r\n",
        ];
        for request in requests {
            is_whole(&MessageEnd::Http, request, None);
        }
    }

    #[test]
    fn a_request_that_is_wrong_is_known_at_the_first_such_byte() {
        let cases: [(&[u8], usize); 26] = [
            (b"\x16\x03\x01\x02\0", 0),
            (b" GET / HTTP/1.1\r\n\r\n", 0),
            (b"HTTP/1.1 200 OK\r\n\r\n", 4),
            (b"GET /\r\n", 5),
            (b"GET  / HTTP/1.1\r\n", 4),
            (b"GET /a b HTTP/1.1\r\n", 7),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 11),
            (b"GET / HTTP/1.1\rHost: x\r\n", 15),
            (b"GET / HTTP/1.1 \r\n", 14),
            (b"GET / HTTP/1.1\r\n Host: x\r\n", 16),
            (b"GET / HTTP/1.1\r\nHost : x\r\n", 20),
            (b"GET / HTTP/1.1\r\nHost\r\n", 20),
            (b"GET / HTTP/1.1\r\n: x\r\n", 16),
            (b"GET / HTTP/1.1\r\nHost: a\rb\r\n", 24),
            (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 33),
            (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 33),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 33),
            (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 32),
            (b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", 33),
            (b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", 33),
            (b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", 56),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 43),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 52),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n", 52),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n", 48),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n", 63),
        ];
        for (bytes, at) in cases {
            assert_eq!(request(bytes), Found::Wrong(at), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_response_ends_after_its_body_if_it_has_one() {
        let responses: [&[u8]; 9] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.0 404 Not Found\nContent-Length: 0\n\n",
            b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n\
              HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ];
        for response in responses {
            is_whole(&MessageEnd::Http, response, Some(GET));
            is_whole(&MessageEnd::Http, response, Some(b""));
        }
    }

    #[test]
    fn some_responses_have_no_body_whatever_their_fields_say() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(answer(head, HEAD), Found::End(head.len()));
        assert_eq!(answer(head, GET), Found::More);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(answer(chunked, HEAD), Found::End(chunked.len()));
        assert_eq!(answer(chunked, CONNECT), Found::End(chunked.len()));
        assert_eq!(answer(b"HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\n", CONNECT), Found::More);
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        assert_eq!(answer(interim, HEAD), Found::More);
        is_whole(&MessageEnd::Http, &[&interim[..], head].concat(), Some(HEAD));
    }

    #[test]
    fn a_response_without_a_length_ends_with_the_connection() {
        let heads: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\nServer: x\r\n\r\n",
            b"HTTP/1.0 200 OK\n\n",
        ];
        for head in heads {
            assert_eq!(answer(&head[..head.len() - 1], GET), Found::More);
            assert_eq!(answer(head, GET), Found::AtClose);
            assert_eq!(answer(&[head, b"hello\r\n"].concat(), GET), Found::AtClose);
        }
    }

    #[test]
    fn a_response_that_is_wrong_is_known_at_the_first_such_byte() {
        let cases: [(&[u8], usize); 9] = [
            (b"hello", 0),
            (b"HTTP/2 200\r\n", 5),
            (b"HTTP/1.1  200 OK\r\n", 9),
            (b"HTTP/1.1 20 OK\r\n", 11),
            (b"HTTP/1.1 2000 OK\r\n", 12),
            (b"\r\nHTTP/1.1 200 OK\r\n", 0),
            (b"HTTP/1.1 100 Continue\r\n\r\n\r\n", 25),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 52),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", 47),
        ];
        for (bytes, at) in cases {
            assert_eq!(answer(bytes, GET), Found::Wrong(at), "{}", bytes.escape_ascii());
        }
    }

    /// A field that has nothing to do with the body, and its line end.
    fn any_field() -> impl Strategy<Value = String> {
        let value = "[ -~\u{80}-\u{ff}]{0,12}(\r\n[ \t][ -~]{0,8})?";
        ("X-[A-Za-z!#$%&'*+.^_`|~0-9-]{0,8}", value, "\r?\n")
            .prop_map(|(name, value, end)| format!("{name}:{value}{end}"))
    }

    /// Fields among which is one that says how long the body is, the empty line, and the body.
    fn any_rest() -> impl Strategy<Value = Vec<u8>> {
        let data = || prop::collection::vec(any::<u8>(), 0..20);
        let counted = (data(), "[Cc]ontent-[Ll]engt[Hh]:[ \t]{0,2}0{0,2}")
            .prop_map(|(data, field)| (format!("{field}{}\r\n", data.len()), data));
        let chunk = (data(), "0{0,3}", "[ \t]{0,2}(;[ -~]{0,9})?");
        let trailers = prop::collection::vec(any_field(), 0..3);
        let parts = (prop::collection::vec(chunk, 0..4), trailers, "(gzip, ?)?[Cc][Hh]unke[Dd],?");
        let chunked = parts.prop_map(|(chunks, trailers, codings)| {
            let mut body = Vec::new();
            for (data, zeros, extension) in chunks.iter().filter(|(data, ..)| !data.is_empty()) {
                let line = format!("{zeros}{:x}{extension}\r\n", data.len());
                body.extend([line.as_bytes(), data, b"\r\n"].concat());
            }
            body.extend(format!("0\r\n{}\r\n", trailers.concat()).into_bytes());
            (format!("transfer-ENCODING: {codings}\r\n"), body)
        });
        let fields = || prop::collection::vec(any_field(), 0..3).prop_map(|fields| fields.concat());
        (fields(), prop_oneof![counted, chunked], fields()).prop_map(|(before, rest, after)| {
            let (field, body) = rest;
            [format!("{before}{field}{after}\r\n").as_bytes(), &body].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_message_ends_where_it_was_made_to(
            empty_lines in "(\r?\n){0,2}",
            method in "[A-Z]{1,7}",
            interims in 0..3usize,
            status in "(200|201|403|500)( [ -~]{0,9})?",
            rest in any_rest(),
            tail in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            prop_assume!(!["HEAD", "CONNECT"].contains(&method.as_str()));
            let line = format!("{empty_lines}{method} /a HTTP/1.1\r\n");
            let asked = [line.as_bytes(), &rest].concat();
            is_whole(&MessageEnd::Http, &asked, None);
            prop_assert_eq!(request(&[&asked[..], &tail].concat()), Found::End(asked.len()));

            let mut response = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(interims);
            response.extend(format!("HTTP/1.1 {status}\r\n").into_bytes());
            response.extend(&rest);
            is_whole(&MessageEnd::Http, &response, Some(&asked));
            let longer = [&response[..], &tail].concat();
            prop_assert_eq!(answer(&longer, &asked), Found::End(response.len()));
        }
    }
}
