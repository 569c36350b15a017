//! Where a message ends, in protocols of all kinds.
//!
//! A [`crate::Decoder`] finds the frames of a length-prefixed protocol as they arrive. This module
//! is for programs that watch a conversation in a protocol they do not speak themselves: given the
//! bytes from the beginning of a message, [`MessageEnd::find`] says where that message ends.
//!
//! ```
//! use trust_wire::{Found, MessageEnd};
//!
//! let request = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
//! assert_eq!(MessageEnd::Http.find(request, None), Found::End(request.len()));
//! assert_eq!(MessageEnd::Http.find(&request[..9], None), Found::More);
//!
//! // The length is that of the answer to a GET: there is no body after this one.
//! let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
//! assert_eq!(MessageEnd::Http.find(answer, Some(request)), Found::End(answer.len()));
//! assert_eq!(MessageEnd::Http.find(answer, Some(b"GET / HTTP/1.1\r\n\r\n")), Found::More);
//!
//! // The second value is no part of the first message.
//! assert_eq!(MessageEnd::Resp.find(b"$5\r\nhello\r\n:1\r\n", Some(request)), Found::End(11));
//! assert_eq!(MessageEnd::Resp.find(b"$5\r\nhello!\r\n", Some(request)), Found::Wrong(9));
//! ```

mod counted;
mod cursor;
mod declared;
mod http;
mod lines;
mod resp;

use alloc::vec::Vec;

use self::cursor::Cursor;
pub(crate) use self::lines::{AfterLine, Lines};
use crate::{Format, LengthFormat};

/// The most bytes of the length of [`MessageEnd::Varint`].
const VARINT_LEN_MAX: u32 = 4;

/// How the end of a message is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageEnd {
    /// A header says how long the payload is.
    Length(LengthFormat),
    /// The same with a length of one to four bytes, seven bits each, the lowest first; the highest
    /// bit of a byte says that another follows (MQTT 3.1.1, section 2.2.3).
    Varint {
        /// Bytes before the length.
        offset: u16,
    },
    /// These are the last bytes of a message, and nowhere else in it. Empty ones are never found.
    Bytes(Vec<u8>),
    /// A value of the Redis serialization protocol, RESP2 or RESP3, with the attributes before it.
    /// A request may also be an inline command: a line that does not begin like a value. Values
    /// can be nested 128 deep.
    Resp,
    /// A request of HTTP/1.1 with the empty lines before it, or a response with the interim
    /// responses before it (RFC 9112, section 6.3; RFC 9110, section 15.2). 101 is no interim
    /// response: after it another protocol is spoken.
    Http,
    /// A line that ends with LF or CR LF. If its first word is one of these, a number of bytes
    /// follows, and then CR LF: memcached's `set` and `VALUE`, NATS' `PUB` and `MSG`.
    Counted(Vec<CountedLine>),
}

/// A line that is followed by counted bytes. Its words are separated by spaces and tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedLine {
    /// The first word, in upper or lower case.
    pub word: Vec<u8>,
    /// Which word is the number of bytes: 0 is the first word, and -1 the last.
    pub count_at: isize,
}

/// What [`MessageEnd::find`] found.
///
/// Once it is not `More`, it stays the same however many bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The message has this many bytes, at least one.
    End(usize),
    /// The message is not whole yet.
    More,
    /// The message ends where the stream does (RFC 9112, section 6.3, the last rule).
    AtClose,
    /// It is no message: the byte at this place, counted from 0, cannot be there. It is the last
    /// byte of a length if no message can have that length.
    Wrong(usize),
}

impl MessageEnd {
    /// Where the message ends that begins with `bytes`, which can be a part of it, or more than
    /// it. `None` as `request` means that it is a request itself. Otherwise it answers `request`,
    /// which can be empty if the server speaks first: whether there is a body may depend on it.
    ///
    /// Lengths are claims of the peer: nothing is allocated for them. The time that this takes is
    /// in proportion to the number of bytes.
    pub fn find(&self, bytes: &[u8], request: Option<&[u8]>) -> Found {
        let mut cursor = Cursor::new(bytes);
        let end = match self {
            MessageEnd::Length(format) => skip_frame(&mut cursor, *format),
            MessageEnd::Varint { offset } => skip_varint_frame(&mut cursor, *offset),
            MessageEnd::Bytes(last) => cursor.skip_through(last),
            MessageEnd::Resp => resp::skip_message(&mut cursor, request.is_none()),
            MessageEnd::Http => match request {
                None => http::skip_request(&mut cursor),
                Some(request) => http::skip_response(&mut cursor, request),
            },
            MessageEnd::Counted(lines) => counted::skip_message(&mut cursor, lines),
        };
        match end {
            Ok(()) => Found::End(cursor.at()),
            Err(found) => found,
        }
    }
}

fn skip_frame(cursor: &mut Cursor<'_>, format: LengthFormat) -> Result<(), Found> {
    let declared = format.peek(cursor.rest()).ok_or(Found::More)?;
    cursor.skip(format.header_len() as u64)?;
    match declared {
        Ok(len) => cursor.skip(len),
        Err(_) => Err(cursor.wrong_before()),
    }
}

fn skip_varint_frame(cursor: &mut Cursor<'_>, offset: u16) -> Result<(), Found> {
    let len = skip_varint_header(cursor, offset)?;
    cursor.skip(len)
}

/// Moves past the header, and returns the length that it declares.
fn skip_varint_header(cursor: &mut Cursor<'_>, offset: u16) -> Result<u64, Found> {
    cursor.skip(offset.into())?;
    let mut len = 0;
    for place in 0..VARINT_LEN_MAX {
        let byte = cursor.byte()?;
        len |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(len);
        }
    }
    Err(cursor.wrong_before())
}

/// The length that a header of [`MessageEnd::Varint`] declares. `None` while it is incomplete, and
/// an error if there is no such header.
pub(crate) fn varint_length(header: &[u8], offset: u16) -> Option<Result<u64, ()>> {
    match skip_varint_header(&mut Cursor::new(header), offset) {
        Err(Found::More) => None,
        declared => Some(declared.map_err(drop)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
