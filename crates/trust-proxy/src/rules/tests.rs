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

fn time() -> impl Strategy<Value = Duration> {
    let nanoseconds =
        prop_oneof![1..5_000_000_000_u64, (1..5000_u64).prop_map(|it| it * 1_000_000)];
    nanoseconds.prop_map(Duration::from_nanos)
}

fn action() -> impl Strategy<Value = RuleAction> {
    let sides = prop_oneof![Just([true, false]), Just([false, true]), Just([true, true])];
    let by = (1..=i64::MAX).prop_flat_map(|by| prop_oneof![Just(by), Just(-by)]);
    let simple = prop_oneof![
        Just(RuleAction::Reset),
        Just(RuleAction::FinEarly),
        Just(RuleAction::Close),
        Just(RuleAction::Hold),
        Just(RuleAction::BlackHole),
        Just(RuleAction::SwallowFin),
        Just(RuleAction::DuplicateFrame),
        Just(RuleAction::SwapFrame),
        Just(RuleAction::AcceptReset),
        Just(RuleAction::AcceptSilent),
    ];
    let changes = prop_oneof![
        sides.prop_map(RuleAction::ResetSides),
        (1..100_u64).prop_map(RuleAction::Drop),
        (1..100_u64).prop_map(RuleAction::DropFrames),
        (1..=u64::MAX).prop_map(RuleAction::TruncateFrame),
        (1..=8_u32).prop_map(RuleAction::Flip),
        bytes().prop_map(RuleAction::Xor),
        bytes().prop_map(RuleAction::Set),
        bytes().prop_map(RuleAction::Insert),
        any::<u64>().prop_map(RuleAction::SetLength),
        by.prop_map(RuleAction::AddLength),
    ];
    let count = || 1..u64::MAX / 2;
    let timing = prop_oneof![
        time().prop_map(RuleAction::Stall),
        (time(), time()).prop_map(|(time, jitter)| RuleAction::Delay(time, jitter)),
        time().prop_map(|jitter| RuleAction::Delay(Duration::ZERO, jitter)),
        Just(RuleAction::Rate(0)),
        time().prop_map(|time| RuleAction::Delay(time, Duration::ZERO)),
        count().prop_map(RuleAction::Rate),
        count().prop_map(RuleAction::SharedRate),
        (1..99_u64).prop_map(|thousands| RuleAction::Rate(thousands * 1000)),
        (count(), time()).prop_map(|(bytes, per)| RuleAction::Dribble(bytes, per)),
        (count(), 0..99_u64).prop_map(|(first, more)| RuleAction::Split(first, first + more)),
        (count(), time()).prop_map(|(bytes, within)| RuleAction::Merge(bytes, within)),
        count().prop_map(RuleAction::Window),
        (2..99_u64, 0..2_u64, time()).prop_map(|(size, vary, per)| {
            RuleAction::Slice(size, vary, if vary == 0 { Duration::ZERO } else { per })
        }),
        prop::option::of(time()).prop_map(RuleAction::Refuse),
        prop::option::of(time()).prop_map(RuleAction::Ignore),
        time().prop_map(RuleAction::ConnectDelay),
    ];
    prop_oneof![simple, changes, timing]
}

fn place() -> impl Strategy<Value = RulePlace> {
    prop_oneof![
        any::<u64>().prop_map(RulePlace::Byte),
        bytes().prop_map(RulePlace::Match),
        Just(RulePlace::Byte(0)),
        (1..u64::MAX, part()).prop_map(|(number, part)| RulePlace::Frame(number, part)),
        Just(RulePlace::Eof),
        (1..9_u64).prop_map(RulePlace::EveryBytes),
        (1..9_u64).prop_map(RulePlace::EveryFrames),
        (1..=1_000_000_u32).prop_map(RulePlace::RandomBytes),
        (1..=1_000_000_u32).prop_map(RulePlace::RandomFrames),
        time().prop_map(RulePlace::Time),
        time().prop_map(RulePlace::Idle),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let network = prop_oneof![
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(address, bits)| (IpAddr::from(address), bits)),
        (any::<[u16; 7]>(), 0..=128_u8).prop_map(|([a, b, c, d, e, f, g], bits)| {
            (IpAddr::from([0xfe80, a, b, c, d, e, f, g]), bits)
        }),
    ];
    prop_oneof![
        Just(Selector::All),
        (1..9_u64, 0..9_u64).prop_map(|(first, more)| Selector::Range(first, first + more)),
        (1..9_u64).prop_map(Selector::Every),
        (1..=1_000_000_u32).prop_map(Selector::Share),
        network.prop_map(|(address, bits)| Selector::From(address, bits)),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let direction = prop_oneof![Just(None), Just(Some(Direction::Up)), Just(Some(Direction::Down))];
    let how_often = (prop::option::of(1..5_u64), prop::option::of(end_place()));
    (selector(), action(), place(), how_often, direction, time()).prop_map(
        |(connections, action, place, (times, until), direction, time)| {
            let mut rule = Rule { connections, action, place, times, until, direction };
            let place = RulePlace::Frame(7, FramePart::Byte(0));
            match &rule.action {
                action if action.is_at_connect() || action.is_of_listener() => {
                    let (times, until, direction) = (None, None, None);
                    let (connections, place) = match action.is_of_listener() {
                        true => (Selector::All, RulePlace::Time(time)),
                        false => (rule.connections, RulePlace::Connect),
                    };
                    let action = rule.action;
                    return Rule { connections, action, place, times, until, direction };
                }
                action if action.is_of_a_frame() && !rule.place.begins_frame() => {
                    rule.place = place;
                }
                action if action.is_of_timing() => {
                    rule.times = None;
                    if rule.place.is_repeated() {
                        rule.place = RulePlace::Byte(0);
                    }
                }
                RuleAction::DropFrames(_) if !rule.place.is_in_frame() => rule.place = place,
                RuleAction::Hold => rule.until = rule.until.map(|_| RulePlace::Time(time)),
                _ => {}
            }
            let is_repeated = rule.place.is_repeated();
            let can_repeat =
                |times: &u64| rule.place.may_be_repeated() && (is_repeated || *times > 1);
            rule.times = rule.times.filter(can_repeat);
            let can_end = rule.place.may_be_repeated() || rule.action.can_end();
            rule.until = rule.until.filter(|_| can_end);
            rule
        },
    )
}

fn end_place() -> impl Strategy<Value = RulePlace> {
    let ends = |place: &RulePlace| !place.is_repeated() && *place != RulePlace::Eof;
    place().prop_filter("a place that comes once", ends)
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
            prop_assert_eq!(failure.hint.is_none(), text.trim().is_empty());
            let hint = failure.hint.unwrap_or_else(|| "\n".to_owned());
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
        ("length +1 @ frame 2 up", "length + 1 @ frame 2 up"),
        ("length - 4 @ every 3 frames", "length - 4 @ every 3 frames"),
        ("rst both @ random 1.50% per frame", "rst both @ random 1.5% per frame"),
        ("rst server @ random 0.0001% per KiB up", "rst server @ random 0.0001% per KiB up"),
        ("dup frame @ frame 5 up", "dup frame @ frame 5 up"),
        ("swap @ frame 5 start", "swap frame @ frame 5"),
        ("drop 1 frame @ frame 5 byte 4 down", "drop 1 frame @ frame 5 byte 4 down"),
        ("truncate 5 @ frame 5 start down", "truncate 5 @ frame 5 down"),
        ("truncate 5 @ random 2% per frame", "truncate 5 @ random 2% per frame"),
        ("split 1 every 1 up", "split 1 every 1 up"),
        ("split 3", "split 3 every 3"),
        ("merge 65536 within 10ms down", "merge 65536 within 10ms down"),
        ("rate 64kB/s down", "rate 64kB/s down"),
        ("rate 64KiB/s @ byte 10", "rate 65536B/s @ byte 10"),
        ("rate 1500000B/s", "rate 1500kB/s"),
        ("rate 64000B/s shared@byte 10 down", "rate 64kB/s shared @ byte 10 down"),
        ("delay 20ms ±5ms down", "delay 20ms ±5ms down"),
        ("delay 20ms +-5ms down", "delay 20ms ±5ms down"),
        ("delay 0ms ±5ms", "delay 0s ±5ms"),
        ("rate 0MB/s", "rate 0B/s"),
        ("dribble 1 per 100ms", "dribble 1 per 100ms"),
        ("window 4096 up", "window 4096 up"),
        ("black-hole @ time 3s", "black-hole @ time 3s"),
        ("close @ idle 1500ms down", "close @ idle 1500ms down"),
        ("insert \"x\" @ every 1 byte", "insert \"x\" @ every 1 byte"),
        ("refuse @ time 0s for 2s", "refuse for 2s"),
        ("ignore @ time 500ms", "ignore @ time 500ms"),
        ("conn 25%: accept-silent @ connect", "conn 25%: accept-silent @ connect"),
        ("conn 1: connect-delay 1500ms @ connect", "conn 1: connect-delay 1500ms"),
        ("connect-delay 2000ms", "connect-delay 2s"),
        ("conn from 10.0.0.0/8: rst @ eof", "conn from 10.0.0.0/8: rst @ eof"),
        ("conn from 10.0.0.0/8:rst @ eof", "conn from 10.0.0.0/8: rst @ eof"),
        ("conn from ::ffff:10.0.0.0/104: rst @ eof", "conn from 10.0.0.0/8: rst @ eof"),
        ("conn from ::1: rst @ eof", "conn from ::1/128: rst @ eof"),
        ("conn from ::1/128 : rst @ eof", "conn from ::1/128: rst @ eof"),
        ("flip 1 bit @ every 9 bytes 3 times up", "flip 1 bit @ every 9 bytes 3 times up"),
        ("flip 1 bit @ every 9 bytes up 1 times", "flip 1 bit @ every 9 bytes 1 time up"),
        ("rst @ random 1% per frame 2 times", "rst @ random 1% per frame 2 times"),
        ("insert \"x\" @ match \"A\" 3 times", "insert \"x\" @ match \"A\" 3 times"),
        ("insert \"x\" @ match \"A\" 1 time", "insert \"x\" @ match \"A\""),
        ("delay 20ms @ byte 10 until byte 50 down", "delay 20ms @ byte 10 until byte 50 down"),
        ("delay 20ms @ byte 10 down until byte 50", "delay 20ms @ byte 10 until byte 50 down"),
        ("rate 64kB/s until time 3000ms down", "rate 64kB/s until time 3s down"),
        ("black-hole @ byte 0 until match 0x41", "black-hole until match \"A\""),
        ("hold @ byte 5 until time 2s down", "hold @ byte 5 until time 2s down"),
        ("swallow fin until idle 1s", "swallow fin until idle 1s"),
        ("drop 9 bytes @ frame 2 until frame 3 start", "drop 9 bytes @ frame 2 until frame 3"),
        (
            "drop 1 frame @ every 2 frames until frame 7 end 3 times up",
            "drop 1 frame @ every 2 frames 3 times until frame 7 end up",
        ),
        ("rst @ match \"A\" until frame 7 2 times", "rst @ match \"A\" 2 times until frame 7"),
    ] {
        assert_eq!(Rule::parse(text).map(|rule| rule.to_string()), Ok(canonical.to_owned()));
    }
}

#[test]
fn what_is_wrong_is_shown_with_a_caret() {
    for (text, at, expected) in [
        ("rst @ bite 7 down", 6, "a place: byte N"),
        ("rts @ byte 7", 0, "an action: rst [client|server|both], fin early"),
        ("rst @ byte -1", 11, "how many bytes come before it"),
        ("rst @ byte 7 sideways", 13, "up, down or the end of the rule"),
        ("rst @ byte 7 up down", 16, "the end of the rule"),
        ("rst", 3, "@ and a place"),
        ("rst @ connect", 0, "accept-rst, accept-silent or connect-delay"),
        ("accept-rst", 10, "@ connect"),
        ("rst @ frame 0", 12, "the number of a frame"),
        ("rst @ frame 1 middle", 14, "a part of the frame: byte N"),
        ("rst @ frame 1 -x", 15, "how many of the last bytes"),
        ("length = 5 @ byte 3", 0, "another action here: this one needs a frame"),
        ("swap frame @ frame 3 end", 0, "another action here: this one needs a frame"),
        ("truncate 5 @ byte 3", 0, "another action here: this one needs a frame"),
        ("truncate 5 @ frame 3 byte 1", 0, "another action here: this one needs a frame"),
        ("truncate 0 @ frame 3", 9, "how many bytes of the frame stay, from 1"),
        ("drop 2 frames @ byte 3", 0, "another action here: frames are dropped @ frame N"),
        ("length 5 @ frame 3", 7, "=, + or - and a number"),
        ("length + 9223372036854775808 @ frame 3", 9, "how much, from 1"),
        ("conn 3: refuse for 2s", 0, "no connections here: the kernel refuses without a word"),
        ("refuse @ byte 1", 9, "time TIME"),
        ("refuse for 0s", 11, "a time above 0"),
        ("rate 1kB/s @ every 10 bytes", 0, "another action here: this one holds from one place on"),
        ("refuse up", 7, "for TIME or the end of the rule"),
        ("delay 5ms ±6", 10, "± and a time with its unit"),
        ("delay 0s ±0s", 6, "a time above 0"),
        ("delay 0s", 6, "a time above 0"),
        ("rate 64kB", 5, "bytes per second"),
        ("rate 0B/s shared", 5, "a rate above 0 to share"),
        ("rate 1kB/s up shared", 14, "until PLACE or the end of the rule"),
        ("rate 1kB/s shared @ every 9 frames", 0, "another action here: this one holds from one"),
        ("split 0", 6, "how many bytes by themselves, from 1"),
        ("split 3 every 2", 14, "of how many bytes, from 3"),
        ("slice 3 ±3", 8, "± and how many bytes, below 3"),
        ("slice 3 per 0s", 12, "a time above 0"),
        ("merge 10", 8, "within"),
        ("rst @ every 3 lines", 14, "bytes or frames"),
        ("rst @ random 0% per frame", 13, "a share from 0.0001% to 100%"),
        ("rst @ random 101% per frame", 13, "a share from 0.0001% to 100%"),
        ("rst @ random 1% per byte", 20, "frame or KiB"),
        ("conn 0%: rst @ eof", 5, "a share from 0.0001% to 100%"),
        ("conn from 10.0.0.0/33: rst @ eof", 10, "an address and how many bits of it"),
        ("accept-rst @ byte 1", 13, "connect"),
        ("connect-delay 1s @ byte 1", 19, "connect"),
        ("connect-delay @ connect", 14, "a time above 0"),
        ("connect-delay 0s", 14, "a time above 0"),
        ("connect-delay 1s up", 17, "the end of the rule"),
        ("conn 0: rst @ eof", 5, "connections: N, N..M"),
        ("conn 2..1: rst @ eof", 5, "connections: N, N..M"),
        ("conn 2 rst @ eof", 7, "a colon"),
        ("stall 2 @ byte 1", 6, "a time with its unit"),
        ("flip 9 bits @ byte 1", 5, "how many bits, from 1 to 8"),
        ("drop 0 bytes @ byte 1", 5, "how many bytes or frames, from 1"),
        ("set 0x123 @ byte 1", 4, "\"TEXT\" or 0xHEX"),
        ("rst @ match \"abc up", 12, "a closing quote"),
        ("rst @ match \"\" up", 12, "at least one byte"),
        ("rst @ match \"\\q\"", 13, "\\n, \\r"),
        ("rst @ byte 7 3 times", 13, "no number of times here: this place comes once"),
        ("rst @ frame 7 3 times", 14, "no number of times here: this place comes once"),
        ("hold 2 times", 5, "no number of times here: this place comes once"),
        ("rst @ every 9 bytes 0 times", 20, "how many times, from 1"),
        ("rst @ every 9 bytes 3", 20, "N times, until PLACE, up, down or the end of the rule"),
        ("rst @ every 9 bytes 3 times 2 times", 28, "until PLACE, up, down or the end"),
        ("rate 1kB/s @ match \"A\" 2 times", 0, "another action here: this one holds from one"),
        ("rst @ byte 7 until byte 9", 13, "no until here: what this rule does is over at once"),
        ("stall 1s @ time 1s until time 2s", 19, "no until here: what this rule does is over"),
        ("hold @ byte 5 until byte 9", 20, "time TIME: after a hold nothing is received"),
        ("hold until", 10, "time TIME: after a hold nothing is received"),
        ("black-hole until eof", 17, "a place where it ends: byte N, frame N"),
        ("black-hole until every 9 bytes", 17, "a place where it ends: byte N, frame N"),
        ("black-hole until byte 9 until byte 10", 24, "up, down or the end of the rule"),
        ("accept-rst @ connect 2 times", 21, "the end of the rule"),
        ("refuse until time 3s", 7, "for TIME or the end of the rule"),
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
fn there_is_no_caret_below_a_blank_rule() {
    for text in ["", " ", "\t"] {
        let error = Rule::parse(text).expect_err("no rule");
        let failure = error.failure(ExitCode::Usage, "--fault", text);
        assert!(failure.message.contains("expected an action: rst "), "{}", failure.message);
        assert_eq!(failure.hint, None);
    }
}

#[test]
fn connections_are_selected_by_their_numbers() {
    let selected = |text: &str| -> Vec<u64> {
        let rule = Rule::parse(&format!("conn {text}: hold")).expect("a rule");
        (1..8).filter(|number| rule.connections.has(who(*number, None), 3)).collect()
    };
    assert_eq!(selected("2"), [2]);
    assert_eq!(selected("2..4"), [2, 3, 4]);
    assert_eq!(selected("every 3"), [3, 6]);
    assert_eq!(selected("*").len(), 7);
}

fn who(connection: u64, address: Option<&str>) -> Who {
    Who { connection, address: address.map(|it| it.parse().expect("an address")), pair: 0 }
}

#[test]
fn connections_are_selected_by_where_they_come_from() {
    let has = |network: &str, address: Option<&str>| {
        let rule = Rule::parse(&format!("conn from {network}: hold")).expect("a rule");
        rule.connections.has(who(1, address), 3)
    };
    assert!(has("10.0.0.0/8", Some("10.200.3.4")) && !has("10.0.0.0/8", Some("11.0.0.1")));
    assert!(has("0.0.0.0/0", Some("1.2.3.4")) && !has("0.0.0.0/0", Some("::1")));
    assert!(has("127.0.0.1", Some("127.0.0.1")) && !has("127.0.0.1", Some("127.0.0.2")));
    assert!(has("fe80::/10", Some("fe80::1")) && has("::/0", Some("::1")));
    // A socket for both families says IPv4 addresses in this way.
    assert!(has("127.0.0.0/8", Some("::ffff:127.0.0.1")));
    assert!(!has("127.0.0.0/8", None));
}

#[test]
fn choices_depend_on_the_seed_and_the_coordinates_alone() {
    let fault = |text: &str, seed, connection, direction| {
        let rules = Rules::new(vec![Rule::parse(text).expect("a rule")], seed);
        rules.faults(who(connection, None), direction)
    };
    let flip = "flip 3 bits @ byte 1";
    assert_eq!(fault(flip, 7, 3, Direction::Down), fault(flip, 7, 3, Direction::Down));
    let others = [fault(flip, 8, 3, Direction::Down), fault(flip, 7, 4, Direction::Down)];
    for other in others.iter().chain([&fault(flip, 7, 3, Direction::Up)]) {
        assert_ne!(fault(flip, 7, 3, Direction::Down), *other);
    }
    let is_selected = |connection| {
        let faults = fault("conn 25%: hold", 7, connection, Direction::Up);
        !faults.is_empty()
    };
    let selected = (1..=4000).filter(|connection| is_selected(*connection)).count();
    assert!((900..1100).contains(&selected), "{selected} of 4000");
}

#[test]
fn a_rate_is_shared_by_the_connections_of_a_rule_also_in_a_replay() {
    let rule = |text: &str| Rule::parse(text).expect("a rule");
    let action = |rules: &Rules, index: usize, connection, direction| {
        rules.faults(who(connection, None), direction)[index].action.clone()
    };
    let text = "rate 1kB/s shared";
    let rules = Rules::new(vec![rule(text), rule(text)], 7);
    let first = action(&rules, 0, 1, Direction::Up);
    assert_eq!(action(&rules, 0, 2, Direction::Up), first);
    assert_ne!(action(&rules, 0, 1, Direction::Down), first);
    assert_ne!(action(&rules, 1, 1, Direction::Up), first);
    let explicit = ["conn 1: rate 1kB/s shared up", "conn 3: rate 1kB/s shared up"];
    let explicit = explicit.map(|text| (4, rule(text)));
    let replayed = Rules::replay(vec![(4, rule("conn 50%: rate 1kB/s shared"))], &explicit, 7);
    let first = action(&replayed, 0, 1, Direction::Up);
    assert_eq!(action(&replayed, 0, 3, Direction::Up), first);
}

#[test]
fn a_replay_has_what_each_rule_did_also_if_two_did_the_same() {
    let rule = parsed;
    let rules = vec![(0, rule("conn 50%: delay 10ms")), (1, rule("delay 10ms"))];
    let explicit = [(0, rule("conn 1: delay 10ms up")), (0, rule("conn 3: delay 10ms up"))];
    let replayed = Rules::replay(rules, &explicit, 7);
    let count = |connection| replayed.faults(who(connection, None), Direction::Up).len();
    assert_eq!([count(1), count(2), count(3)], [2, 1, 2]);
}

fn parsed(text: &str) -> Rule {
    Rule::parse(text).expect("a rule")
}

#[test]
fn a_rule_that_ends_needs_what_its_end_needs() {
    let ends_in = |part: &str| parsed(&format!("delay 1s until frame 2{part}"));
    assert_eq!(ends_in("").lacks(None), Some("frames"));
    assert_eq!(ends_in("").lacks(Some(&FrameFormat::Line)), None);
    assert_eq!(ends_in(" payload").lacks(Some(&FrameFormat::Line)), Some("a length field"));
}

#[test]
fn what_a_rule_did_somewhere_is_done_once_and_ends_where_that_rule_does() {
    let fired = FiredFault { rule: 0, position: 70, frame: Some((3, 4)), is_lifted: false };
    for (text, expected) in [
        ("insert \"x\" @ random 5% per KiB 3 times", "insert \"x\" @ byte 70"),
        ("insert \"x\" @ match \"A\" 3 times until time 1s", "insert \"x\" @ byte 70"),
        ("insert \"x\" @ match \"A\"", "insert \"x\" @ match \"A\""),
        ("drop 9 bytes @ every 7 bytes until byte 75", "drop 9 bytes @ byte 70 until byte 75"),
        (
            "drop 1 frame @ every 3 frames 2 times until frame 4",
            "drop 1 frame @ frame 3 until frame 4",
        ),
        ("hold @ random 5% per KiB until time 1s", "hold @ byte 70 until time 1s"),
        ("delay 5ms until byte 90", "delay 5ms until byte 90"),
    ] {
        let explicit = parsed(text).explicit(2, Some((Direction::Up, fired)), 7);
        assert_eq!(explicit.to_string(), format!("conn 2: {expected} up"));
        assert_eq!(Rule::parse(&explicit.to_string()), Ok(explicit), "{text}");
    }
}
