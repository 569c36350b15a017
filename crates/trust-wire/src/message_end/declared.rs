//! The length that a message declares, and the same message with another one.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Range;

use super::cursor::Declared;
use super::{Found, MessageEnd, VARINT_LEN_MAX, counted, http, resp};

/// Bits of the length in each byte of a [`MessageEnd::Varint`].
const VARINT_BITS: u32 = 7;

impl MessageEnd {
    /// Where the payload of a whole request is, whose length the request declares before it: what
    /// follows the header, the last bulk string, the body, or the counted bytes.
    ///
    /// `None` if it declares no length, and if it is not one request and nothing else.
    pub fn payload(&self, request: &[u8]) -> Option<Range<usize>> {
        self.declared(request).map(|declared| declared.payload)
    }

    /// The beginning of a whole request, up to its payload, where it declares a payload of `length`
    /// bytes instead of its own ([`MessageEnd::payload`]). All other bytes are those of the
    /// request. With that many bytes, and what followed the payload, it is whole again.
    ///
    /// `None` if the request declares no length, if it is not one request and nothing else, and if
    /// its length field cannot declare that length.
    ///
    /// ```
    /// use trust_wire::MessageEnd;
    ///
    /// let set = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nhello\r\n";
    /// let long = MessageEnd::Resp.declaring(set, 1_000_000);
    /// let header = &b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1000000\r\n"[..];
    /// assert_eq!(long.as_deref(), Some(header));
    /// assert_eq!(MessageEnd::Resp.declaring(b"PING\r\n", 1_000_000), None);
    /// ```
    pub fn declaring(&self, request: &[u8], length: u64) -> Option<Vec<u8>> {
        let Declared { field, payload } = self.declared(request)?;
        let value = match self {
            MessageEnd::Length(format) => {
                let mut header = Vec::new();
                format.encode(length, &mut header).ok()?;
                header.split_off(field.start)
            }
            MessageEnd::Varint { .. } => varint(length)?,
            MessageEnd::Counted(_) | MessageEnd::Resp | MessageEnd::Http => {
                length.to_string().into_bytes()
            }
            MessageEnd::Bytes(_) => return None,
        };
        Some([&request[..field.start], &value, &request[field.end..payload.start]].concat())
    }

    /// The longest payload, in bytes, that a length field can declare; `u64::MAX` where lengths are
    /// written in digits or not declared.
    pub fn max_payload(&self) -> u64 {
        match self {
            MessageEnd::Length(format) => format.max_payload(),
            MessageEnd::Varint { .. } => (1 << (VARINT_BITS * VARINT_LEN_MAX)) - 1,
            _ => u64::MAX,
        }
    }

    fn declared(&self, request: &[u8]) -> Option<Declared> {
        if self.find(request, None) != Found::End(request.len()) {
            return None;
        }
        match self {
            MessageEnd::Length(format) => {
                let payload = format.header_len()..request.len();
                Some(Declared { field: format.length_at(), payload })
            }
            MessageEnd::Varint { offset } => {
                let begin = usize::from(*offset);
                let last = request[begin..].iter().position(|byte| byte & 0x80 == 0)?;
                let end = begin + last + 1;
                Some(Declared { field: begin..end, payload: end..request.len() })
            }
            MessageEnd::Counted(lines) => counted::declared(request, lines),
            MessageEnd::Resp => resp::declared(request),
            MessageEnd::Http => http::declared(request),
            MessageEnd::Bytes(_) => None,
        }
    }
}

/// The bytes of such a length; `None` if it needs more than there can be.
fn varint(mut length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..VARINT_LEN_MAX {
        let low = (length & 0x7f) as u8;
        length >>= VARINT_BITS;
        if length == 0 {
            bytes.push(low);
            return Some(bytes);
        }
        bytes.push(low | 0x80);
    }
    None
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::format::tests::any_format;
    use crate::message_end::CountedLine;
    use crate::message_end::tests::{found, length};

    fn memcached() -> MessageEnd {
        MessageEnd::Counted(vec![CountedLine { word: b"set".to_vec(), count_at: 4 }])
    }

    fn post(field: &str, body: &str) -> Vec<u8> {
        format!("\r\nPOST /a HTTP/1.1\r\nHost: x\r\n{field}\r\nX: 5\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn a_message_declares_another_length_and_is_itself_otherwise() {
        let mqtt = MessageEnd::Varint { offset: 1 };
        let cases: [(MessageEnd, &[u8], u64, &[u8]); 8] = [
            (length("u32be", 1, -4), b"Q\0\0\0\x0eselect 1;\0", 0x0100_0000, b"Q\x01\0\0\x04"),
            (length("u16le+incl", 2, 0), b"ab\x05\0x", 0x0201, b"ab\x05\x02"),
            (mqtt.clone(), b"\x82\x01x", 127, b"\x82\x7f"),
            (mqtt, b"\x82\x01x", 67_108_864, b"\x82\x80\x80\x80\x20"),
            (memcached(), b"set  k 0 0 2 noreply\r\nhi\r\n", 70, b"set  k 0 0 70 noreply\r\n"),
            (MessageEnd::Resp, b"*2\r\n$1\r\na\r\n:1\r\n", 0, b"*2\r\n$0\r\n"),
            (
                MessageEnd::Http,
                &post("Content-Length: \t5 ", "hello"),
                1000,
                &post("Content-Length: \t1000 ", ""),
            ),
            (
                MessageEnd::Http,
                &post("content-length:\r\n 005", "hello"),
                0,
                &post("content-length:\r\n 0", ""),
            ),
        ];
        for (end, message, length, expected) in cases {
            let header = end.declaring(message, length);
            assert_eq!(header.as_deref(), Some(expected), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn what_declares_no_length_cannot_declare_another() {
        let count = CountedLine { word: b"2".to_vec(), count_at: 0 };
        let cases: [(MessageEnd, &[u8]); 13] = [
            (MessageEnd::Counted(vec![count]), b"2\r\nhi\r\n"),
            (MessageEnd::Bytes(b"\n".to_vec()), b"hello\n"),
            (memcached(), b"get k\r\n"),
            (MessageEnd::Resp, b"PING\r\n"),
            (MessageEnd::Resp, b"*1\r\n:1\r\n"),
            (MessageEnd::Resp, b"*1\r\n$-1\r\n"),
            (MessageEnd::Http, b"GET / HTTP/1.1\r\n\r\n"),
            (MessageEnd::Http, &post("Content-Length: 2, 2", "hi")),
            (MessageEnd::Http, &post("Transfer-Encoding: chunked", "0\r\n\r\n")),
            (MessageEnd::Http, &post("Content-Length: 2\r\nContent-Length: 2", "hi")),
            // Not one whole message.
            (MessageEnd::Http, &post("Content-Length: 2", "h")),
            (length("u16be", 0, 0), b"\0\x01ab"),
            (length("u16be", 0, 0), b""),
        ];
        for (end, message) in cases {
            assert_eq!(end.payload(message), None, "{}", message.escape_ascii());
            assert_eq!(end.declaring(message, 9), None, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn a_length_field_declares_no_more_than_it_can() {
        let ends =
            [length("u8", 0, 0), length("u16be+incl", 3, 0), MessageEnd::Varint { offset: 0 }];
        for (end, message) in ends.iter().zip([&b"\x01x"[..], b"abc\0\x06x", b"\x01x"]) {
            let most = end.max_payload();
            let header = end.declaring(message, most).expect("the most that can be declared");
            assert_eq!(found(end, &header, None), Found::More);
            assert_eq!(end.declaring(message, most + 1), None);
        }
        assert_eq!(MessageEnd::Resp.max_payload(), u64::MAX);
    }

    /// An end, and a message with that end which declares a length.
    fn any_message() -> impl Strategy<Value = (MessageEnd, Vec<u8>)> {
        let data = || prop::collection::vec(any::<u8>(), 0..40);
        let framed = (any_format(), data(), any::<u8>()).prop_filter_map(
            "the field can declare it",
            |(format, payload, fill)| {
                let mut message = vec![];
                format.encode(payload.len() as u64, &mut message).ok()?;
                message[..format.length_at().start].fill(fill);
                message.extend(payload);
                Some((MessageEnd::Length(format), message))
            },
        );
        let with_varint = (0..9u16, data()).prop_map(|(offset, payload)| {
            let front = vec![0x82; offset.into()];
            let field = varint(payload.len() as u64).unwrap_or_default();
            (MessageEnd::Varint { offset }, [front, field, payload].concat())
        });
        let counted = ("( noreply)?", data()).prop_map(|(after, payload)| {
            let line = format!("set key 0 0 {}{after}\r\n", payload.len());
            (memcached(), [line.as_bytes(), &payload, b"\r\n"].concat())
        });
        let resp = (data(), data(), "(:7\r\n)?").prop_map(|(key, value, after)| {
            let count = if after.is_empty() { 2 } else { 3 };
            let (key_len, value_len) = (key.len(), value.len());
            let begin = format!("*{count}\r\n${key_len}\r\n").into_bytes();
            let middle = format!("\r\n${value_len}\r\n").into_bytes();
            let all = [&begin, &key, &middle, &value, &b"\r\n"[..], after.as_bytes()].concat();
            (MessageEnd::Resp, all)
        });
        let http = ("(X: a\r\n)?", "[ \t]{0,2}", data(), "[ \t]?(\r\nY: 7)?").prop_map(
            |(before, blank, body, after)| {
                let fields = format!("{before}Content-Length:{blank}{}{after}", body.len());
                let head = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
                (MessageEnd::Http, [head.as_bytes(), &body].concat())
            },
        );
        prop_oneof![framed, with_varint, counted, resp, http]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn with_the_bytes_that_it_declares_it_is_whole(
            (end, message) in any_message(),
            length in 0..300u64,
        ) {
            let payload = end.payload(&message).expect("it declares a length");
            let own = end.declaring(&message, payload.len() as u64).expect("it declares this one");
            let again = [&own[..], &message[payload.start..]].concat();
            prop_assert_eq!(end.find(&again, None), Found::End(again.len()));

            let Some(header) = end.declaring(&message, length) else {
                prop_assert!(matches!(end, MessageEnd::Length(_)), "only a field has a limit");
                return Ok(());
            };
            let data = vec![b'x'; length as usize];
            let whole = [&header[..], &data, &message[payload.end..]].concat();
            prop_assert_eq!(found(&end, &whole, None), Found::End(whole.len()));
            let declared = end.payload(&whole).expect("it declares a length");
            prop_assert_eq!(declared, header.len()..header.len() + data.len());
        }

        #[test]
        fn a_long_payload_is_waited_for(
            (end, message) in any_message(),
            length in 2..u64::from(u32::MAX),
        ) {
            if let Some(mut header) = end.declaring(&message, length) {
                prop_assert_eq!(found(&end, &header, None), Found::More);
                header.push(b'x');
                prop_assert_eq!(found(&end, &header, None), Found::More);
            }
        }
    }
}
