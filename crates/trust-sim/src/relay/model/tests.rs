use std::time::Duration;

use trust_wire::LengthFormat;

use super::*;

/// What becomes of a stream with these faults, which ends with FIN.
fn model(stream: &[u8], faults: &[(FaultPlace, FaultAction)]) -> StreamModel {
    let faults: Vec<RelayFault> = faults
        .iter()
        .enumerate()
        .map(|(rule, (place, action))| RelayFault {
            rule,
            place: place.clone(),
            action: action.clone(),
        })
        .collect();
    let format = LengthFormat::parse("u8").map(FrameFormat::Length);
    let mut model = StreamModel::of(stream, &faults, format.as_ref());
    model.finish(stream.len());
    model
}

fn text(bytes: &str) -> Box<[u8]> {
    bytes.as_bytes().into()
}

#[test]
fn places_count_what_came_from_the_source_whatever_rules_do_to_it() {
    let insert = |text: &str| FaultAction::Insert(text.as_bytes().into());
    let model = model(
        b"abcdef",
        &[
            (FaultPlace::Byte(1), FaultAction::Drop(2)),
            (FaultPlace::Byte(2), insert("+")),
            (FaultPlace::Match(text("cd")), FaultAction::Set(text("E"))),
            (FaultPlace::Byte(4), insert("-")),
            (FaultPlace::End, insert("!")),
        ],
    );
    assert_eq!(model.output, b"a+d-Ef!");
    let due: Vec<usize> = (0..=6).map(|received| model.due(received)).collect();
    assert_eq!(due, [0, 1, 2, 2, 4, 5, 7]);
    let fired: Vec<(usize, u64)> = model.fired(6).map(|it| (it.rule, it.position)).collect();
    assert_eq!(fired, [(0, 1), (1, 2), (2, 4), (3, 4), (4, 6)]);
}

#[test]
fn frames_begin_where_others_end_and_have_places_that_they_are_long_enough_for() {
    let frame = |number, part| FaultPlace::Frame { number, part };
    let insert = || FaultAction::Insert(text("."));
    let places = [
        frame(1, FramePart::End),
        frame(2, FramePart::Byte(0)),
        frame(2, FramePart::BeforeEnd(1)),
        frame(2, FramePart::BeforeEnd(3)),
        frame(1, FramePart::Byte(4)),
        frame(3, FramePart::Payload),
    ];
    let faults: Vec<_> = places.into_iter().map(|place| (place, insert())).collect();
    let model = model(b"\x02ab\x02cd\x09ef", &faults);
    let fired: Vec<_> = model.fired(9).map(|it| (it.rule, it.position, it.frame)).collect();
    let right =
        [(0, 3, Some((2, 0))), (1, 3, Some((2, 0))), (2, 5, Some((2, 2))), (5, 7, Some((3, 1)))];
    assert_eq!(fired, right);
    assert_eq!((model.frames(5), model.frames(9)), (Some(1), Some(2)));
}

#[test]
fn nothing_happens_after_the_end() {
    let faults = [
        (FaultPlace::Byte(2), FaultAction::Stall(Duration::from_secs(1))),
        (FaultPlace::Byte(3), FaultAction::Reset),
        (FaultPlace::Byte(3), FaultAction::Insert(text("x"))),
        (FaultPlace::End, FaultAction::Close),
    ];
    let model = model(b"abcdef", &faults);
    assert_eq!((&model.output[..], model.fired(6).count()), (&b"abc"[..], 2));
    let last = ModelGate { output: 3, kind: GateKind::Reset };
    assert_eq!((model.gate(1, 2), model.gate(1, 3), model.gate(2, 6)), (None, Some(last), None));
    assert!(model.drops_all(3) && !model.drops_all(2));
}

#[test]
fn frames_are_sent_twice_later_or_with_another_length() {
    let at = |number| FaultPlace::Frame { number, part: FramePart::Byte(0) };
    let stream = b"\x01a\x01b\x01c\x01d";
    for (faults, expected) in [
        (vec![(at(1), FaultAction::DuplicateFrame)], &b"\x01a\x01a\x01b\x01c\x01d"[..]),
        (vec![(at(2), FaultAction::SwapFrame)], b"\x01a\x01c\x01b\x01d"),
        (vec![(at(4), FaultAction::SwapFrame)], b"\x01a\x01b\x01c\x01d"),
        (vec![(at(2), FaultAction::DropFrames(2))], b"\x01a\x01d"),
        (vec![(at(2), FaultAction::TruncateFrame(1))], b"\x01a\x01\x01c\x01d"),
        (vec![(at(2), FaultAction::TruncateFrame(2))], stream),
        (
            vec![(at(1), FaultAction::DuplicateFrame), (at(1), FaultAction::AddLength(-3))],
            b"\xfea\xfea\x01b\x01c\x01d",
        ),
        (
            vec![(FaultPlace::EveryFrames(2), FaultAction::Insert(text("-")))],
            b"\x01a-\x01b\x01c-\x01d",
        ),
    ] {
        assert_eq!(model(stream, &faults).output, expected, "{faults:?}");
    }
}
