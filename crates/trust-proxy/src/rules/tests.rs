use proptest::prelude::*;

use super::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ -~]{1,9}".prop_map(String::into_bytes);
    prop_oneof![prop::collection::vec(any::<u8>(), 1..9), text]
}

fn part() -> impl Strategy<Value = FramePart> {
    prop_oneof![
        any::<u64>().prop_map(FramePart::Byte),
        Just(FramePart::Payload),
        (1..u64::MAX).prop_map(FramePart::BeforeEnd),
        Just(FramePart::End),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let times = prop_oneof![0..5_000_000_000_u64, (0..5000_u64).prop_map(|ms| ms * 1_000_000)];
    let action = prop_oneof![
        Just(RuleAction::Reset),
        Just(RuleAction::FinEarly),
        Just(RuleAction::Close),
        times.prop_map(|ns| RuleAction::Stall(Duration::from_nanos(ns))),
        Just(RuleAction::Hold),
        Just(RuleAction::BlackHole),
        (1..100_u64).prop_map(RuleAction::Drop),
        (1..=8_u32).prop_map(RuleAction::Flip),
        bytes().prop_map(RuleAction::Xor),
        bytes().prop_map(RuleAction::Set),
        bytes().prop_map(RuleAction::Insert),
        Just(RuleAction::SwallowFin),
        any::<u64>().prop_map(RuleAction::SetLength),
        Just(RuleAction::AcceptReset),
        Just(RuleAction::AcceptSilent),
    ];
    let place = prop_oneof![
        any::<u64>().prop_map(RulePlace::Byte),
        bytes().prop_map(RulePlace::Match),
        Just(RulePlace::Byte(0)),
        (1..u64::MAX, part()).prop_map(|(number, part)| RulePlace::Frame(number, part)),
        Just(RulePlace::Eof),
    ];
    let direction = prop_oneof![Just(None), Just(Some(Direction::Up)), Just(Some(Direction::Down))];
    let connections = prop_oneof![
        Just(Selector::All),
        (1..9_u64, 0..9_u64).prop_map(|(first, more)| Selector::Range(first, first + more)),
        (1..9_u64).prop_map(Selector::Every),
    ];
    (connections, action, place, direction).prop_map(|(connections, action, place, direction)| {
        match action {
            RuleAction::AcceptReset | RuleAction::AcceptSilent => {
                Rule { connections, action, place: RulePlace::Connect, direction: None }
            }
            action @ RuleAction::SetLength(_) => {
                let place = RulePlace::Frame(7, FramePart::Byte(0));
                Rule { connections, action, place, direction }
            }
            action => Rule { connections, action, place, direction },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_text_of_a_rule_is_read_back(rule in rule()) {
        prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
    }

    #[test]
    fn any_text_is_read_or_refused_at_a_place_in_it(text in ".{0,40}") {
        if let Err(error) = Rule::parse(&text) {
            let failure = error.failure(ExitCode::Usage, "--fault", &text);
            let hint = failure.hint.expect("it is shown");
            let (_, caret) = hint.rsplit_once('\n').expect("a caret below it");
            prop_assert!(caret.len() <= "hint: ".len() + text.chars().count() + 1);
        }
    }
}

#[test]
fn rules_have_one_text() {
    for (text, canonical) in [
        ("rst@byte 1000 down", "rst @ byte 1000 down"),
        ("  conn 1..2 :accept-rst @ connect", "conn 1..2: accept-rst @ connect"),
        ("conn 3..3: close @ eof up", "conn 3: close @ eof up"),
        ("conn *: hold", "hold"),
        ("conn every 3: black-hole @ byte 0", "conn every 3: black-hole"),
        ("stall 2000ms @ byte 1000 down", "stall 2s @ byte 1000 down"),
        ("fin early @ match \"a\\\"b\\\\\" down", "fin early @ match \"a\\\"b\\\\\" down"),
        ("drop 1 bytes @ match 0x41 up", "drop 1 byte @ match \"A\" up"),
        ("flip 1 bit @ byte 100 up", "flip 1 bit @ byte 100 up"),
        ("xor \"A\" @ byte 1", "xor 0x41 @ byte 1"),
        ("insert \"\\r\\n\" @ eof", "insert 0x0d0a @ eof"),
        ("swallow fin", "swallow fin"),
        ("rst @ frame 7 byte 13 down", "rst @ frame 7 byte 13 down"),
        ("fin early @ frame 3 header byte 2 down", "fin early @ frame 3 byte 2 down"),
        ("rst @ frame 3 start", "rst @ frame 3"),
        ("rst @ frame 3 payload up", "rst @ frame 3 payload up"),
        ("rst @ frame 3 - 4 up", "rst @ frame 3 -4 up"),
        ("stall 1s @ frame 3 end", "stall 1s @ frame 3 end"),
        ("length=4294967295 @ frame 2 up", "length = 4294967295 @ frame 2 up"),
    ] {
        assert_eq!(Rule::parse(text).map(|rule| rule.to_string()), Ok(canonical.to_owned()));
    }
}

#[test]
fn what_is_wrong_is_shown_with_a_caret() {
    for (text, at, expected) in [
        ("rst @ bite 7 down", 6, "a place: byte N"),
        ("rts @ byte 7", 0, "an action: rst, fin early"),
        ("rst @ byte -1", 11, "how many bytes come before it"),
        ("rst @ byte 7 sideways", 13, "up, down or the end of the rule"),
        ("rst @ byte 7 up down", 16, "the end of the rule"),
        ("rst", 3, "@ and a place"),
        ("rst @ connect", 0, "accept-rst or accept-silent"),
        ("accept-rst", 10, "@ connect"),
        ("rst @ frame 0", 12, "the number of a frame"),
        ("rst @ frame 1 middle", 14, "a part of the frame: byte N"),
        ("rst @ frame 1 -x", 15, "how many of the last bytes"),
        ("length = 5 @ byte 3", 0, "another action here: length needs @ frame N"),
        ("length 5 @ frame 3", 7, "= and what the length field says"),
        ("accept-rst @ byte 1", 13, "connect"),
        ("conn 0: rst @ eof", 5, "connections: N, N..M"),
        ("conn 2..1: rst @ eof", 5, "connections: N, N..M"),
        ("conn 2 rst @ eof", 7, "a colon"),
        ("stall 2 @ byte 1", 6, "a time with its unit"),
        ("flip 9 bits @ byte 1", 5, "how many bits, from 1 to 8"),
        ("drop 0 bytes @ byte 1", 5, "how many bytes, from 1"),
        ("set 0x123 @ byte 1", 4, "\"TEXT\" or 0xHEX"),
        ("rst @ match \"abc up", 12, "a closing quote"),
        ("rst @ match \"\" up", 12, "at least one byte"),
        ("rst @ match \"\\q\"", 13, "\\n, \\r"),
        ("", 0, "an action"),
    ] {
        let error = Rule::parse(text).expect_err(text);
        let failure = error.failure(ExitCode::Usage, "--fault", text);
        let start = format!("--fault: invalid fault rule: expected {expected}");
        assert!(failure.message.starts_with(&start), "{text}: {}", failure.message);
        let caret = format!("{text}\n{}^", " ".repeat("hint: ".len() + at));
        assert_eq!(failure.hint, Some(caret), "{text}");
    }
    let long = format!("rst @ match \"{}\"", "x".repeat(MATCH_MAX + 1));
    assert!(Rule::parse(&long).is_err());
}

#[test]
fn connections_are_selected_by_their_numbers() {
    let selected = |text: &str| -> Vec<u64> {
        let rule = Rule::parse(&format!("conn {text}: hold")).expect("a rule");
        (1..8).filter(|number| rule.connections.has(*number)).collect()
    };
    assert_eq!(selected("2"), [2]);
    assert_eq!(selected("2..4"), [2, 3, 4]);
    assert_eq!(selected("every 3"), [3, 6]);
    assert_eq!(selected("*").len(), 7);
}

#[test]
fn random_bits_depend_on_the_seed_and_the_coordinates_alone() {
    let bits = |seed, connection, direction| {
        let rule = Rule::parse("flip 3 bits @ byte 1").expect("a rule");
        let rules = Rules::new(vec![rule], seed);
        match &rules.faults(connection, direction)[..] {
            [RelayFault { action: FaultAction::Xor(bytes), .. }] => bytes[0],
            other => panic!("not one: {other:?}"),
        }
    };
    let all: Vec<u8> = (0..50).map(|seed| bits(seed, 1, Direction::Up)).collect();
    assert!(all.iter().all(|bits| bits.count_ones() == 3), "{all:?}");
    assert!(all.iter().any(|bits| *bits != all[0]), "{all:?}");
    assert_eq!(bits(7, 3, Direction::Down), bits(7, 3, Direction::Down));
}
