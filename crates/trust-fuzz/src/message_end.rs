//! Where a message ends: whatever comes, in whatever pieces, there is one answer.

use trust_wire::{CountedLine, Found, LengthFormat, MessageEnd};

use crate::choices::Choices;

/// What may follow the bytes that decide.
const TAILS: [&[u8]; 5] = [b"\0", b" ", b"\r\n", b"\n", b"1:$\xff"];

/// Requests that are answered.
const REQUESTS: [&[u8]; 4] = [
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\nHEAD / HTTP/1.1\r\n\r\n",
    b"CONNECT localhost:443 HTTP/1.1\r\n\r\n",
];

/// Words of lines that count bytes.
const WORDS: [&str; 5] = ["set", "VALUE", "MSG", "a", ""];

/// Lengths that a message declares instead of its own, in bytes.
const LENGTHS: [u64; 4] = [0, 1, 127, 300];

/// Input: the kind of end and what it needs, the request that is answered (of 6: 0 means that this
/// is a request, 5 that its bytes follow), the bytes of the message.
///
/// # Panics
///
/// If pieces come to another answer than the whole, if what follows a message changes where it
/// ends, if that is not known with the last byte, if a place is not among the bytes, or if a
/// request that declares another length is not whole with that many bytes.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let Some(end) = end(&mut choices) else { return };
    let request = match choices.byte() % 6 {
        0 => None,
        5 => Some(choices.short_bytes()),
        known => Some(REQUESTS[usize::from(known) - 1]),
    };
    let bytes = choices.rest();
    let whole = end.find(bytes, request);
    let mut answers = (0..=bytes.len()).map(|len| (len, end.find(&bytes[..len], request)));
    let Some((decided_at, first)) = answers.find(|(_, answer)| *answer != Found::More) else {
        assert_eq!(whole, Found::More);
        return;
    };
    assert_eq!(first, whole, "a piece of {decided_at} bytes and {} bytes", bytes.len());
    assert!(answers.all(|(_, answer)| answer == whole));
    for tail in TAILS {
        let longer = [&bytes[..decided_at], tail].concat();
        assert_eq!(end.find(&longer, request), whole, "with {tail:?} after it");
    }
    match whole {
        Found::End(len) => assert_eq!(len, decided_at, "it is known with its last byte"),
        Found::Wrong(at) => assert!(at < decided_at, "byte {at} of {decided_at}"),
        Found::AtClose => assert!(end == MessageEnd::Http && request.is_some()),
        Found::More => unreachable!("it was decided"),
    }
    assert_ne!(whole, Found::End(0), "a message has bytes");
    if let (Found::End(len), None) = (whole, request) {
        check_declaring(&end, &bytes[..len]);
    }
}

/// With another length and that many bytes, a whole request is whole.
fn check_declaring(end: &MessageEnd, request: &[u8]) {
    let Some(payload) = end.payload(request) else { return };
    let own = end.declaring(request, payload.len() as u64).expect("it declares this length");
    let again = [&own[..], &request[payload.start..]].concat();
    assert_eq!(end.find(&again, None), Found::End(again.len()));
    for length in LENGTHS {
        let Some(header) = end.declaring(request, length) else { continue };
        let data = vec![b'x'; length as usize];
        let other = [&header[..], &data, &request[payload.end..]].concat();
        assert_eq!(end.find(&other, None), Found::End(other.len()), "{length} bytes");
    }
}

fn end(choices: &mut Choices) -> Option<MessageEnd> {
    Some(match choices.byte() % 6 {
        0 => MessageEnd::Http,
        1 => MessageEnd::Resp,
        2 => {
            let count = choices.byte() % 4;
            let mut line = || CountedLine {
                word: choices.one_of(&WORDS).as_bytes().to_vec(),
                count_at: choices.byte().cast_signed().into(),
            };
            MessageEnd::Counted((0..count).map(|_| line()).collect())
        }
        3 => MessageEnd::Bytes(choices.short_bytes().to_vec()),
        4 => MessageEnd::Varint { offset: choices.byte().into() },
        _ => {
            let format = LengthFormat::parse(choices.one_of(&LengthFormat::NAMES))?;
            let format = format.with_offset(choices.byte().into())?;
            MessageEnd::Length(format.with_adjust(choices.byte().cast_signed().into())?)
        }
    })
}
