use alloc::vec;
use proptest::prelude::*;

use super::*;
use crate::format::tests::any_format;

/// What may follow a message.
const TAILS: [&[u8]; 6] = [b"\0", b" ", b"\r\n", b"\n", b"7\xff", b"*1\r\n"];

/// What is found, which must not depend on what follows the bytes that decide it.
#[track_caller]
pub(super) fn found(end: &MessageEnd, bytes: &[u8], request: Option<&[u8]>) -> Found {
    let whole = end.find(bytes, request);
    let find = |len: usize| end.find(&bytes[..len], request);
    let shown = bytes.escape_ascii();
    let Some(decided_at) = (0..=bytes.len()).find(|len| find(*len) != Found::More) else {
        assert_eq!(whole, Found::More, "{shown}");
        return whole;
    };
    for len in decided_at..bytes.len() {
        assert_eq!(find(len), whole, "{len} bytes of {shown}");
    }
    for tail in TAILS {
        let longer = [&bytes[..decided_at], tail].concat();
        assert_eq!(end.find(&longer, request), whole, "{}", longer.escape_ascii());
    }
    match whole {
        Found::End(len) => assert_eq!(len, decided_at, "known with its last byte: {shown}"),
        Found::Wrong(at) => assert!(at < decided_at, "{at} of {decided_at} bytes of {shown}"),
        Found::More | Found::AtClose => {}
    }
    whole
}

/// Checks that the bytes are one message.
#[track_caller]
pub(super) fn is_whole(end: &MessageEnd, bytes: &[u8], request: Option<&[u8]>) {
    assert_eq!(found(end, bytes, request), Found::End(bytes.len()), "{}", bytes.escape_ascii());
}

pub(super) fn length(name: &str, offset: u16, adjust: i64) -> MessageEnd {
    let format = LengthFormat::parse(name).and_then(|format| format.with_offset(offset));
    MessageEnd::Length(format.and_then(|format| format.with_adjust(adjust)).expect("a format"))
}

#[test]
fn a_length_field_says_where_a_message_ends() {
    let postgres = length("u32be", 1, -4);
    is_whole(&postgres, b"Q\0\0\0\x0eselect 1;\0", None);
    is_whole(&postgres, b"Z\0\0\0\x05I", Some(b"Q\0\0\0\x0eselect 1;\0"));
    let dns = length("u16be", 0, 0);
    let query = b"\0\x1c\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04test\x05local\0\0\x01\0\x01";
    is_whole(&dns, query, None);
    let kafka = length("u32be", 0, 0);
    is_whole(&kafka, b"\0\0\0\x0b\0\x12\0\0\0\0\0\x01\0\x01t", None);
    let modbus = length("u16be", 4, 0);
    is_whole(&modbus, b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x02", None);
    is_whole(&modbus, b"\0\x01\0\0\0\x07\x01\x03\x04\0\x0a\0\x0b", Some(b""));
}

#[test]
fn a_length_that_no_message_can_have_is_wrong_at_its_last_byte() {
    assert_eq!(found(&length("u32be", 1, -4), b"Z\0\0\0\x03", None), Found::Wrong(4));
    assert_eq!(found(&length("u32le+incl", 0, 0), b"\x03\0\0\0", None), Found::Wrong(3));
    assert_eq!(found(&length("u64be", 0, 0), &[0xff; 9], None), Found::Wrong(7));
    assert_eq!(found(&length("u32be", 0, 0), &[0xff; 9], None), Found::More);
}

#[test]
fn a_varint_has_four_bytes_at_most() {
    let mqtt = MessageEnd::Varint { offset: 1 };
    is_whole(&mqtt, b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0", None);
    is_whole(&mqtt, b"\x20\x02\0\0", Some(b""));
    is_whole(&mqtt, b"\xc0\0", None);
    for (len, field) in [(127, &b"\x7f"[..]), (128, b"\x80\x01"), (16_384, b"\x80\x80\x01")] {
        let message = [b"\x30", field, &vec![7; len]].concat();
        assert_eq!(mqtt.find(&message, None), Found::End(message.len()));
        assert_eq!(mqtt.find(&message[..message.len() - 1], None), Found::More);
    }
    assert_eq!(found(&mqtt, b"\x30\xff\xff\xff\x7f", None), Found::More);
    assert_eq!(found(&mqtt, b"\x30\x80\x80\x80\x80\x01", None), Found::Wrong(4));
}

#[test]
fn end_bytes_are_found_where_they_come_first() {
    let line = MessageEnd::Bytes(b"\r\n".to_vec());
    is_whole(&line, b"\r\n", None);
    is_whole(&line, b"HELO a\rb\nc\r\r\n", None);
    assert_eq!(found(&line, b"QUIT\r\nQUIT\r\n", None), Found::End(6));
    is_whole(&MessageEnd::Bytes(b"\x1c\r".to_vec()), b"\x0bMSH|^~\\&|\r\x1c\x1c\r", None);
    is_whole(&MessageEnd::Bytes(vec![0]), b"CONNECT\n\n\0", None);
    assert_eq!(found(&MessageEnd::Bytes(vec![]), b"anything", None), Found::More);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_frame_of_any_format_ends_where_it_was_made_to(
        format in any_format(),
        payload in prop::collection::vec(any::<u8>(), 0..40),
        tail in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        let mut frame = vec![];
        prop_assume!(format.encode(payload.len() as u64, &mut frame).is_ok());
        frame.extend(payload);
        let end = MessageEnd::Length(format);
        is_whole(&end, &frame, None);
        prop_assert_eq!(found(&end, &[&frame[..], &tail].concat(), None), Found::End(frame.len()));
    }

    #[test]
    fn a_frame_with_a_varint_ends_where_it_was_made_to(
        offset in 0..20u16,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut frame = vec![0xff; offset.into()];
        let mut len = payload.len();
        while len > 127 {
            frame.push(len as u8 | 0x80);
            len >>= 7;
        }
        frame.push(len as u8);
        frame.extend(payload);
        is_whole(&MessageEnd::Varint { offset }, &frame, None);
    }

    #[test]
    fn whatever_the_bytes_are_the_first_answer_stays(
        end in any_end(),
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            prop::collection::vec(
                prop::sample::select(&b"*$%|;?-.+013af \r\n:HTTP/1"[..]), 0..60,
            ),
        ],
        request in prop::option::of(Just(&b"HEAD / HTTP/1.1\r\n\r\n"[..])),
    ) {
        found(&end, &bytes, request);
    }
}

fn any_end() -> impl Strategy<Value = MessageEnd> {
    let counted = (prop::sample::select(vec!["$0", "1", "a"]), -3..3isize);
    prop_oneof![
        any_format().prop_map(MessageEnd::Length),
        (0..10u16).prop_map(|offset| MessageEnd::Varint { offset }),
        prop::collection::vec(0..4u8, 0..3).prop_map(MessageEnd::Bytes),
        Just(MessageEnd::Resp),
        Just(MessageEnd::Http),
        prop::collection::vec(counted, 0..3).prop_map(|lines| {
            let line = |(word, count_at): (&str, _)| CountedLine { word: word.into(), count_at };
            MessageEnd::Counted(lines.into_iter().map(line).collect())
        }),
    ]
}
