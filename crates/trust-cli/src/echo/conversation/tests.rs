use super::*;
use proptest::prelude::*;

const WIDE: Window = Window { bytes: 1 << 20, frames: u64::MAX };

/// A framed conversation in which all of `messages` were sent, and what was put on the wire.
fn sent(messages: &[Vec<u8>]) -> (Conversation, Vec<u8>) {
    let mut conversation = Conversation::new(Framing::Framed, WIDE);
    for message in messages {
        conversation.push_message(message);
    }
    let wire = conversation.unsent().to_vec();
    conversation.handle_sent(wire.len());
    (conversation, wire)
}

fn take_echoes(conversation: &mut Conversation, max: usize) -> Vec<Vec<u8>> {
    let mut echoes = vec![];
    let mut echo = vec![];
    while let Some(part) = conversation.poll_echo(max) {
        echo.extend_from_slice(part.bytes);
        if part.is_last {
            echoes.push(std::mem::take(&mut echo));
        }
    }
    echoes
}

/// Cuts `bytes` at the given places, which need not be in order.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8)
}

proptest! {
    #[test]
    fn echoes_come_out_the_same_however_the_answer_is_cut(
        messages in messages(),
        places in prop::collection::vec(any::<usize>(), 0..20),
        max in 1..50_usize,
    ) {
        let (mut conversation, wire) = sent(&messages);
        let mut echoes = vec![];
        for piece in cut(&wire, &places) {
            prop_assert_eq!(conversation.handle_received(piece), Ok(()));
            echoes.extend(take_echoes(&mut conversation, max));
        }
        prop_assert_eq!(&echoes, &messages);
        prop_assert!(conversation.is_settled());
        prop_assert_eq!(conversation.owed(), None);
        prop_assert_eq!(conversation.frames_echoed(), messages.len() as u64);
    }

    #[test]
    fn a_single_wrong_bit_is_found_and_located_however_the_answer_is_cut(
        messages in messages(),
        places in prop::collection::vec(any::<usize>(), 0..20),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let (mut conversation, wire) = sent(&messages);
        let at = at.index(wire.len());
        let mut answer = wire.clone();
        answer[at] ^= 1 << bit;
        let (index, begin) = frame_of(&messages, at);
        let error = cut(&answer, &places)
            .into_iter()
            .find_map(|piece| conversation.handle_received(piece).err());
        let echo = index as u64 + 1;
        let expected = if at - begin < HEADER_LEN {
            let got = decode_header(*answer[begin..].first_chunk().unwrap());
            WrongEcho::Length { echo, expected: messages[index].len() as u32, got }
        } else {
            let offset = (at - begin - HEADER_LEN) as u64;
            WrongEcho::Byte { echo, offset, expected: wire[at], got: answer[at] }
        };
        prop_assert_eq!(error, Some(expected));
        prop_assert_eq!(take_echoes(&mut conversation, 7), messages[..index].to_vec());
    }

    #[test]
    fn what_is_owed_is_exact_wherever_the_answer_stops(
        messages in messages(),
        places in prop::collection::vec(any::<usize>(), 0..20),
        at in any::<prop::sample::Index>(),
    ) {
        let (mut conversation, wire) = sent(&messages);
        let at = at.index(wire.len());
        for piece in cut(&wire[..at], &places) {
            conversation.handle_received(piece).unwrap();
        }
        let (index, begin) = frame_of(&messages, at);
        let of = (HEADER_LEN + messages[index].len()) as u64;
        let got = (at - begin) as u64;
        prop_assert_eq!(conversation.owed(), Some(Owed::Frame { echo: index as u64 + 1, got, of }));
    }

    #[test]
    fn raw_bytes_come_out_as_they_arrive(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        places in prop::collection::vec(any::<usize>(), 0..20),
        wrong in any::<prop::sample::Index>(),
    ) {
        let mut conversation = Conversation::new(Framing::Raw, WIDE);
        conversation.push(&bytes);
        conversation.handle_sent(bytes.len());
        let wrong = wrong.index(bytes.len());
        let mut answer = bytes.clone();
        answer[wrong] ^= 0x20;
        let mut echoed = vec![];
        let mut error = None;
        for piece in cut(&answer, &places) {
            error = conversation.handle_received(piece).err();
            while let Some(part) = conversation.poll_echo(5) {
                echoed.extend_from_slice(part.bytes);
            }
            if error.is_some() {
                break;
            }
        }
        let expected = WrongEcho::RawByte {
            offset: wrong as u64,
            expected: bytes[wrong],
            got: answer[wrong],
        };
        prop_assert_eq!(error, Some(expected));
        prop_assert_eq!(&echoed, &bytes[..wrong]);
    }
}

/// The message, and the offset where its frame begins, to which byte `at` of the wire belongs.
fn frame_of(messages: &[Vec<u8>], at: usize) -> (usize, usize) {
    let mut begin = 0;
    for (index, message) in messages.iter().enumerate() {
        let end = begin + HEADER_LEN + message.len();
        if at < end {
            return (index, begin);
        }
        begin = end;
    }
    unreachable!("byte {at} is not in any frame");
}

#[test]
fn the_window_closes_and_an_echo_that_was_handed_out_opens_it() {
    let mut conversation =
        Conversation::new(Framing::Framed, Window { bytes: 20, frames: u64::MAX });
    conversation.push_message(b"twelve bytes");
    assert!(conversation.wants_frame());
    conversation.push_message(b"twelve bytes");
    assert!(!conversation.wants_frame());
    let wire = conversation.unsent().to_vec();
    conversation.handle_sent(wire.len());
    conversation.handle_received(&wire[..16]).unwrap();
    assert!(!conversation.wants_frame(), "its echo still takes up memory");
    assert_eq!(take_echoes(&mut conversation, 99).len(), 1);
    assert!(conversation.wants_frame());
}

#[test]
fn a_window_of_one_frame_waits_for_each_echo() {
    let mut conversation = Conversation::new(Framing::Framed, Window { bytes: 1000, frames: 1 });
    conversation.push_message(b"");
    assert!(!conversation.wants_frame());
    conversation.handle_sent(HEADER_LEN);
    conversation.handle_received(&[0; HEADER_LEN]).unwrap();
    assert!(conversation.wants_frame());
}

#[test]
fn bytes_are_not_taken_for_an_echo_before_they_are_sent() {
    let mut conversation = Conversation::new(Framing::Framed, WIDE);
    conversation.push_message(b"ab");
    assert_eq!(conversation.handle_received(&[0]), Err(WrongEcho::Unasked { first: 0 }));
    conversation.handle_sent(5);
    let early = conversation.handle_received(b"\0\0\0\x02ab");
    assert_eq!(early, Err(WrongEcho::Unasked { first: b'b' }));
}

#[test]
fn a_large_frame_enters_piece_by_piece_and_is_bounded_while_unsent() {
    let mut conversation = Conversation::new(Framing::Framed, WIDE);
    conversation.start_frame(u32::MAX);
    assert_eq!(conversation.room(), UNSENT_MAX - HEADER_LEN);
    conversation.push(&vec![7; conversation.room()]);
    assert_eq!(conversation.room(), 0);
    conversation.handle_sent(1000);
    assert_eq!(conversation.room(), 1000);
    assert!(!conversation.wants_frame());
    let of = 4 + u64::from(u32::MAX);
    assert_eq!(conversation.owed(), Some(Owed::Frame { echo: 1, got: 0, of }));
}

#[test]
fn memory_stays_flat_over_a_long_conversation() {
    let window = Window { bytes: 300_000, frames: u64::MAX };
    let mut conversation = Conversation::new(Framing::Framed, window);
    let payload = vec![5; 10_000];
    for _ in 0..1000 {
        while conversation.wants_frame() {
            conversation.push_message(&payload);
        }
        let wire = conversation.unsent().to_vec();
        conversation.handle_sent(wire.len());
        let arrived = wire.len().min(25_000);
        // What was not answered in the rounds before comes first; every byte is the same frame.
        let answer = conversation.stream[conversation.matched..][..arrived].to_vec();
        conversation.handle_received(&answer).unwrap();
        take_echoes(&mut conversation, 4096);
        assert!(conversation.stream.len() <= 2 * window.bytes + payload.len());
    }
    assert!(conversation.frames_echoed() > 1000);
}

#[test]
fn messages_name_numbers_in_groups() {
    let owed = Owed::Frame { echo: 1, got: 0, of: 70_004 };
    assert_eq!(owed.to_string(), "got 0 of 70,004 bytes of echo 1");
    let wrong = WrongEcho::Byte { echo: 3, offset: 1234, expected: 0x61, got: 0x0a };
    assert_eq!(wrong.to_string(), "wrong echo 3: byte 1,234 is 0x0a, 0x61 was sent");
}
