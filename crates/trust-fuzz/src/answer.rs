//! The diagnosis of a server's answer: for any messages in any framing, nothing is wrong if and
//! only if the answer is their echo.

use trust_check::answer::diagnose;
use trust_check::request::{Answers, Request, expectation};
use trust_cli::framing::Framing;
use trust_wire::format::LengthFormat;

use crate::choices::Choices;

/// Names of framings; lengths also get an offset and an adjustment.
const FRAMINGS: [&str; 12] = [
    "u32be",
    "raw",
    "line",
    "u8",
    "u16be",
    "u16le",
    "u24be",
    "u24le",
    "u64be",
    "u8+incl",
    "u16le+incl",
    "u32be+incl",
];

/// The most payloads in one input.
const PAYLOADS_MAX: usize = 8;

/// The most bytes of a payload beyond those that the format requires.
const PAYLOAD_MAX: u8 = 40;

/// Bytes of the answer that come at once.
const PIECE: usize = 7;

/// Input: framing, offset, adjustment, the number of payloads, and each with its length; then the
/// pieces of the answer: a frame, part of one, a payload, or any bytes.
///
/// # Panics
///
/// If the diagnosis finds nothing wrong with a wrong answer or something wrong with a right one, or
/// is not a sentence.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let framing = framing(&mut choices);
    let count = usize::from(choices.byte()) % (PAYLOADS_MAX + 1);
    let payloads: Vec<Vec<u8>> = (0..count).map(|_| payload(&framing, &mut choices)).collect();
    let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| framing.encode(payload)).collect();
    let mut got = vec![];
    while !choices.is_empty() {
        let kind = choices.byte();
        let index = usize::from(choices.byte()) % count.max(1);
        let (frame, payload) = (frames.get(index), payloads.get(index));
        let whole = || frame.map_or(&[][..], Vec::as_slice);
        match kind % 5 {
            0 => got.extend(frames.concat()),
            1 => got.extend_from_slice(whole()),
            2 => got.extend(whole().iter().take(choices.byte().into())),
            3 => got.extend_from_slice(payload.map_or(&[][..], Vec::as_slice)),
            _ => got.extend_from_slice(choices.short_bytes()),
        }
    }
    let messages: Vec<Request> =
        payloads.iter().map(|payload| Request::echo(&framing, payload)).collect();
    let messages: Vec<&Request> = messages.iter().collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let diagnosis = diagnose(&framing, &payloads, &got);
    assert_eq!(diagnosis.is_none(), got == frames.concat(), "{diagnosis:?} of {got:?}");
    let mut answers = Answers::to(&messages);
    got.chunks(PIECE).for_each(|piece| answers.add(piece));
    let excess = answers.take_excess();
    let in_pieces = answers.diagnosis(&framing);
    match (in_pieces.is_none(), excess.is_empty()) {
        (true, true) => assert_eq!(diagnosis, None),
        (true, false) => assert!(got.ends_with(&excess) && diagnosis.is_some()),
        (false, _) => assert_eq!(in_pieces, diagnosis),
    }
    for text in [expectation(&messages)].into_iter().chain(diagnosis) {
        assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
    }
}

fn framing(choices: &mut Choices<'_>) -> Framing {
    let framing = Framing::parse(choices.one_of(&FRAMINGS)).expect("the framing has a name");
    let (offset, adjust) = (choices.byte() % 5, choices.byte().cast_signed() / 8);
    let Framing::Length(format) = framing else { return framing };
    let moved =
        |format: LengthFormat| format.with_offset(offset.into())?.with_adjust(adjust.into());
    Framing::Length(moved(format).unwrap_or(format))
}

/// A payload that the framing can express.
fn payload(framing: &Framing, choices: &mut Choices<'_>) -> Vec<u8> {
    let len = u64::from(choices.byte() % (PAYLOAD_MAX + 1));
    let len = match framing {
        Framing::Length(format) => len.clamp(format.min_payload(), format.max_payload()),
        Framing::Raw | Framing::Line => len,
    };
    let mut payload = choices.bytes(len as usize).to_vec();
    payload.resize(len as usize, 0);
    payload
}
