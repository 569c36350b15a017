use alloc::vec;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::Found;
use crate::format::tests::any_format;

/// What happens where in a stream that comes in these pieces, with the number of the frame that is
/// the current one then.
fn events<'a>(
    format: &FrameFormat,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<(FrameEvent, u64, u64)> {
    let (mut tracker, mut position, mut events) = (FrameTracker::new(format.clone()), 0, vec![]);
    for mut piece in pieces {
        while !piece.is_empty() {
            let reach = tracker.reach(position, piece);
            assert!(reach > 0, "{tracker:?} gets nowhere");
            position += reach as u64;
            tracker.advance(position, &piece[..reach]);
            piece = &piece[reach..];
            while let Some(event) = tracker.next_event(position) {
                events.push((event, tracker.number, position));
            }
            assert!(tracker.held.len() <= LINE_MAX);
        }
    }
    events
}

/// What happens in a stream that comes whole; it must be the same if it comes byte by byte.
#[track_caller]
fn events_of(format: &FrameFormat, stream: &[u8]) -> Vec<(FrameEvent, u64, u64)> {
    let whole = events(format, [stream]);
    assert_eq!(events(format, stream.chunks(1)), whole);
    whole
}

/// Where frames end.
#[track_caller]
fn ends(format: &FrameFormat, stream: &[u8]) -> Vec<u64> {
    let events = events_of(format, stream).into_iter();
    let ends = events.filter(|(event, ..)| *event == FrameEvent::End);
    ends.map(|(.., position)| position).collect()
}

/// Where it is lost, and which frame cannot be one.
#[track_caller]
fn lost(format: &FrameFormat, stream: &[u8]) -> Option<(u64, u64)> {
    let events = events_of(format, stream).into_iter();
    let mut lost = events.filter(|(event, ..)| *event == FrameEvent::Lost);
    lost.next().map(|(_, number, position)| (number, position))
}

fn length(name: &str, offset: u16, adjust: i64) -> LengthFormat {
    let format = LengthFormat::parse(name).and_then(|format| format.with_offset(offset));
    format.and_then(|format| format.with_adjust(adjust)).unwrap()
}

fn counted() -> MessageEnd {
    let line = |(word, count_at): (&str, isize)| CountedLine { word: word.into(), count_at };
    MessageEnd::Counted([("set", 4), ("VALUE", 3), ("a", -1)].map(line).into())
}

fn postgres_up() -> FrameFormat {
    let format = length("u32be+incl", 0, 0);
    let opening = FrameOpening::Startup { format, max: 10_000, again: 4 };
    FrameFormat::Opened(opening, length("u32be", 1, -4))
}

fn postgres_down() -> FrameFormat {
    let opening = FrameOpening::SingleBytes { refused: b'N', accepted: b"SG" };
    FrameFormat::Opened(opening, length("u32be", 1, -4))
}

#[test]
fn a_preface_is_no_frame_and_frames_begin_after_it() {
    let opening = FrameOpening::Preface(b"hello!");
    let format = FrameFormat::Opened(opening, length("u24be", 0, 6));
    let stream = b"hello!\0\0\x02tfstrmhi\0\0\0tfstrm";
    assert_eq!(ends(&format, stream), [6, 17, 26]);
    assert_eq!(events_of(&format, b"hello"), []);
    assert_eq!(lost(&format, b"hellooo and so on"), Some((0, 6)));
    let mut tracker = FrameTracker::new(format);
    assert_eq!((tracker.place(3), tracker.whole()), (None, 0));
    tracker.advance(6, b"hello?");
    assert_eq!(tracker.next_event(6), Some(FrameEvent::Lost));
    assert_eq!(tracker.take_lost(), Some(LostFraming { frame: 1, position: 6 }));
}

#[test]
fn the_first_message_of_a_postgres_client_has_no_type() {
    let startup = b"\0\0\0\x0d\0\x03\0\0user\0";
    let query = b"Q\0\0\0\x0dSELECT 1\0";
    let terminate = b"X\0\0\0\x04";
    let plain = [&startup[..], query, terminate].concat();
    assert_eq!(ends(&postgres_up(), &plain), [13, 27, 32]);
    let asked = [b"\0\0\0\x08\x04\xd2\x16\x30", b"\0\0\0\x08\x04\xd2\x16\x2f", &plain[..]].concat();
    assert_eq!(ends(&postgres_up(), &asked), [8, 16, 29, 43, 48]);
    let encrypted = b"\0\0\0\x08\x04\xd2\x16\x2f\x16\x03\x01\x02\0\x01\0\x01\xfc";
    assert_eq!(lost(&postgres_up(), encrypted), Some((2, 12)));
}

#[test]
fn the_answer_of_postgres_to_a_request_for_encryption_is_a_byte() {
    let plain = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    assert_eq!(ends(&postgres_down(), plain), [9, 15]);
    assert_eq!(ends(&postgres_down(), &[b"NN", &plain[..]].concat()), [1, 2, 11, 17]);
    // Later an N is a notice.
    assert_eq!(ends(&postgres_down(), b"R\0\0\0\x08\0\0\0\0N\0\0\0\x05x"), [9, 15]);
    for accepted in [&b"S\x16\x03\x03"[..], b"G\0\0\x01"] {
        assert_eq!(ends(&postgres_down(), accepted), [1]);
        assert_eq!(lost(&postgres_down(), accepted), Some((2, 1)));
    }
}

#[test]
fn values_of_redis_are_frames_however_long_their_strings_are() {
    let request = FrameFormat::Resp { is_request: true };
    let answer = FrameFormat::Resp { is_request: false };
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n";
    assert_eq!(ends(&request, set), [30]);
    assert_eq!(ends(&request, &[&set[..], b"PING\r\n", b"*0\r\n"].concat()), [30, 36, 40]);
    assert_eq!(lost(&answer, b"+OK\r\nPING\r\n+"), Some((2, 11)));
    let long = [b"$200000\r\n", &[b'\n'; 200_000][..], b"\r\n:1\r\n"].concat();
    assert_eq!(ends(&answer, &long), [200_011, 200_015]);
    let endless = vec![b'+'; LINE_MAX + 2];
    assert_eq!(events(&answer, [&endless[..]]), [(FrameEvent::Lost, 1, LINE_MAX as u64)]);
}

#[test]
fn the_header_of_a_varint_ends_with_its_length() {
    let mqtt = FrameFormat::Varint { offset: 1 };
    let stream = [b"\xc0\0\x30\x80\x01", &[7; 128][..], b"\x30\xff\xff\xff\xff\x01"].concat();
    let expected = [
        (FrameEvent::Header, 1, 2),
        (FrameEvent::End, 2, 2),
        (FrameEvent::Header, 2, 5),
        (FrameEvent::End, 3, 133),
        (FrameEvent::Lost, 3, 138),
    ];
    assert_eq!(events_of(&mqtt, &stream), expected);
}

#[test]
fn messages_that_need_the_other_direction_or_room_are_no_frames() {
    assert_eq!(FrameFormat::of_messages(&MessageEnd::Http, true), None);
    assert_eq!(FrameFormat::of_messages(&MessageEnd::Bytes(b"\r\n".to_vec()), true), None);
    let line = FrameFormat::of_messages(&MessageEnd::Bytes(b"\n".to_vec()), true);
    assert_eq!(line, Some(FrameFormat::Line));
}

fn any_end() -> impl Strategy<Value = MessageEnd> {
    prop_oneof![
        any_format().prop_map(MessageEnd::Length),
        (0..4u16).prop_map(|offset| MessageEnd::Varint { offset }),
        Just(MessageEnd::Bytes(b"\n".to_vec())),
        Just(MessageEnd::Resp),
        Just(counted()),
    ]
}

/// Pieces of which messages of all kinds are made.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"\0",
        b"\x01",
        b"\x02",
        b"\x07",
        b"\x80",
        b"\r\n",
        b"\n",
        b" ",
        b"*1\r\n",
        b"*2\r\n",
        b"*?\r\n",
        b".\r\n",
        b"$2\r\n",
        b"hi\r\n",
        b"$?\r\n",
        b";1\r\na\r\n",
        b";0\r\n",
        b"%1\r\n",
        b"|1\r\n",
        b":1\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"set k 0 0 2\r\n",
        b"VALUE k 0 0\r\n",
        b"get k\r\n",
        b"a 2\r\n",
        b"$5\r\nhello\r\n",
    ];
    prop::collection::vec(prop::sample::select(words), 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(4000)
    })]

    #[test]
    fn frames_are_the_messages_that_are_found_however_the_stream_is_cut(
        end in any_end(),
        is_request in any::<bool>(),
        stream in any_stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let format = FrameFormat::of_messages(&end, is_request).unwrap();
        let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
        let seen = events(&format, pieces);
        prop_assert_eq!(&seen, &events_of(&format, &stream));

        let (mut expected, mut at) = (vec![], 0);
        let request = if is_request { None } else { Some(&b""[..]) };
        let after = loop {
            match end.find(&stream[at..], request) {
                Found::End(len) => at += len,
                other => break other,
            }
            expected.push(at as u64);
        };
        prop_assert_eq!(ends(&format, &stream), expected);
        // That a line is wrong is known with its last byte.
        if lost(&format, &stream).is_some() {
            prop_assert!(matches!(after, Found::Wrong(_)), "{after:?}");
        }
    }

    #[test]
    fn an_opening_does_not_depend_on_how_the_stream_is_cut(
        stream in prop::collection::vec(prop_oneof![
            3 => Just(0), 2 => prop::sample::select(b"NSGRZ\x04\x05\x08\x09".as_slice()),
        ], 0..60),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        for format in [postgres_up(), postgres_down()] {
            let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
            prop_assert_eq!(events(&format, pieces), events_of(&format, &stream));
        }
    }
}
