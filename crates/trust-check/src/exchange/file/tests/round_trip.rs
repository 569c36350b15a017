//! Any protocol is read back as it was written, and any file is a protocol or has a mistake.

use proptest::prelude::*;

use super::*;

/// The protocol as an exchange file.
fn written(protocol: &Protocol) -> String {
    let text =
        |text: &str| serde_json::to_string(text).expect("a text").replace('\u{7f}', "\\u007f");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    let patterns = |patterns: &[Pattern]| {
        patterns.iter().map(|pattern| text(pattern.source())).collect::<Vec<_>>().join(", ")
    };
    let end = |end: &MessageEnd| match end {
        MessageEnd::Length(format) => {
            // Display writes the name, then `offset N` and `adjust N`.
            let shown = format.to_string();
            let mut words = shown.split(' ');
            let mut keys = format!("length = '{}'\n", words.next().unwrap());
            while let (Some(key), Some(value)) = (words.next(), words.next()) {
                keys += &format!("{key} = {value}\n");
            }
            keys
        }
        MessageEnd::Varint { offset } => format!("varint = true\noffset = {offset}\n"),
        MessageEnd::Bytes(bytes) => format!("end_hex = '{}'\n", hex(bytes)),
        MessageEnd::Resp => "end = 'resp'\n".to_owned(),
        MessageEnd::Http => "end = 'http'\n".to_owned(),
        MessageEnd::Counted(lines) => {
            let words = lines.iter().map(|line| {
                format!("{} = {}", text(std::str::from_utf8(&line.word).unwrap()), line.count_at)
            });
            format!("counted = {{ {} }}\n", words.collect::<Vec<_>>().join(", "))
        }
    };
    let several = |told: &Option<Several>| {
        let told = told.as_ref().map(Several::key);
        told.map_or_else(String::new, |(key, pattern)| {
            format!("{key} = {}\n", text(pattern.source()))
        })
    };
    let exchange = |exchange: &Exchange, is_refused: bool| {
        let Exchange { name, send, want, several: told, ignore, once, closes, secret } = exchange;
        let mut keys = format!("name = {}\nsend_hex = '{}'\n", text(name), hex(&send.bytes(0)));
        match want {
            Some(Want::Bytes(want)) => keys += &format!("want_hex = '{}'\n", hex(&want.bytes(0))),
            Some(Want::Pattern(pattern)) => {
                let key = if is_refused { "want" } else { "want_pattern" };
                keys += &format!("{key} = {}\n", text(pattern.source()));
            }
            None => {}
        }
        keys += &several(told);
        keys += &format!("ignore = [{}]\nsecret = {secret}\n", patterns(ignore));
        if !is_refused && (*once || *closes) {
            keys += &format!("once = {once}\ncloses = {closes}\n");
        }
        keys
    };
    let mut file = format!("name = {}\nwarm_up = {}\n", text(&protocol.name), protocol.warm_up);
    file += "[message]\n";
    file += &format!("ignore = [{}]\n", patterns(&protocol.ignore));
    file += &format!("unasked = [{}]\n", patterns(&protocol.unasked));
    if let Some(max) = protocol.max {
        file += &format!("max = {max}\n");
    }
    if let Some(IdPlaces { send, want }) = &protocol.id {
        file += &format!("id = {{ send = '{send:?}', want = '{want:?}' }}\n");
    }
    file += "[message.request]\n";
    file += &protocol.request_end.as_ref().map(end).unwrap_or_default();
    if let Some(first) = &protocol.first_request_end {
        file += &format!("[message.request.first]\n{}", end(first));
    }
    if let Some(answer) = &protocol.answer_end {
        file += &format!("[message.answer]\n{}", end(&answer.message));
        file += &several(&answer.several);
    }
    for Allowance { of, instead, verdict, why } in &protocol.allow {
        let key = of.key();
        let one = |instead: &Instead| match instead {
            Instead::Anything => "true".to_owned(),
            Instead::Close => "'close'".to_owned(),
            Instead::First => "'first'".to_owned(),
            Instead::Nothing => "'nothing'".to_owned(),
            Instead::Pattern(pattern) => text(pattern.source()),
        };
        let instead = match &instead[..] {
            [Instead::Anything] => "any = true".to_owned(),
            [alone] => format!("instead = {}", one(alone)),
            several => {
                format!("instead = [{}]", several.iter().map(one).collect::<Vec<_>>().join(", "))
            }
        };
        let verdict = match verdict {
            AllowedVerdict::Allowed => "allowed",
            AllowedVerdict::Warn => "warn",
            AllowedVerdict::Info => "info",
        };
        file += &format!("[allow.{key}]\n{instead}\nverdict = '{verdict}'\nwhy = {}\n", text(why));
    }
    for before in &protocol.before {
        file += &format!("[[before]]\n{}", exchange(before, false));
    }
    for each in &protocol.exchanges {
        file += &format!("[[exchange]]\n{}", exchange(each, false));
    }
    if let Some(refused) = &protocol.refused {
        file += &format!("[refused]\n{}", exchange(refused, true));
    }
    if let Some(Effect { change, read }) = &protocol.effect {
        let keys = exchange(change, false).replace("ignore = []\n", "");
        file += &format!("[effect]\n{keys}[effect.read]\n{}", exchange(read, false));
    }
    if let Some(Upgrade { to, request, accepted, after, is_first }) = &protocol.upgrade {
        let to = match to {
            UpgradeTo::Tls => "tls",
            UpgradeTo::Other(name) => name,
        };
        let [send, after] = [request, after].map(|it| hex(&it.send.bytes(0)));
        file += &format!("[upgrade]\nto = {}\nsend_hex = '{send}'\n", text(to));
        file += &format!("want = {}\nafter_hex = '{after}'\n", text(accepted.source()));
        file += &format!("first = {is_first}\n");
    }
    file
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let parts =
        prop::sample::select(&["a", "[0-9]+", r"\x00", "(?s:.)", "x|y", "\r\n", "\"", "'"][..]);
    prop::collection::vec(parts, 1..5).prop_map(|parts| Pattern::parse(&parts.concat()).unwrap())
}

fn any_patterns() -> impl Strategy<Value = Vec<Pattern>> {
    prop::collection::vec(any_pattern(), 0..3)
}

fn any_line() -> impl Strategy<Value = String> {
    "[ -~äµ→\"'\\\\]{0,20}[a-z]"
}

fn any_length() -> impl Strategy<Value = LengthFormat> {
    let parts = (prop::sample::select(&LengthFormat::NAMES[..]), 0..9u16, -9..9i64);
    parts.prop_filter_map("it says something", |(name, offset, adjust)| {
        LengthFormat::parse(name)?.with_offset(offset)?.with_adjust(adjust)
    })
}

fn any_end() -> impl Strategy<Value = MessageEnd> {
    let counted = prop::collection::btree_map("[A-Za-z0-9\"'.=-]{1,6}", 1..100isize, 1..4);
    prop_oneof![
        any_length().prop_map(MessageEnd::Length),
        (0..=254u16).prop_map(|offset| MessageEnd::Varint { offset }),
        prop::collection::vec(any::<u8>(), 1..5).prop_map(MessageEnd::Bytes),
        Just(MessageEnd::Resp),
        Just(MessageEnd::Http),
        counted.prop_map(|words| {
            let line = |(word, count_at): (String, _)| CountedLine { word: word.into(), count_at };
            MessageEnd::Counted(words.into_iter().map(line).collect())
        }),
    ]
}

fn several_of(which: usize, pattern: Pattern) -> Option<Several> {
    match which {
        0 => None,
        1 => Some(Several::Last(pattern)),
        _ => Some(Several::More(pattern)),
    }
}

fn any_answer_end() -> impl Strategy<Value = AnswerEnd> {
    (any_end(), any_pattern(), 0..3usize).prop_map(|(message, pattern, which)| AnswerEnd {
        message,
        several: several_of(which, pattern),
    })
}

fn any_allowance(of: Allowed) -> impl Strategy<Value = Allowance> {
    let one = prop_oneof![
        Just(Instead::Close),
        Just(Instead::First),
        Just(Instead::Nothing),
        any_pattern().prop_map(Instead::Pattern),
    ];
    let instead = prop_oneof![Just(vec![Instead::Anything]), prop::collection::vec(one, 1..4)];
    let verdict = prop::sample::select(
        &[AllowedVerdict::Allowed, AllowedVerdict::Warn, AllowedVerdict::Info][..],
    );
    (instead, verdict, any_line()).prop_map(move |(instead, verdict, why)| Allowance {
        of,
        instead,
        verdict,
        why,
    })
}

fn any_exchange() -> impl Strategy<Value = Exchange> {
    // Long enough for any id below.
    let bytes = || prop::collection::vec(any::<u8>(), 24..40).prop_map(Template::of_bytes);
    let want = prop_oneof![
        Just(None),
        bytes().prop_map(|bytes| Some(Want::Bytes(bytes))),
        any_pattern().prop_map(|pattern| Some(Want::Pattern(pattern))),
    ];
    let flags = any::<(bool, bool, bool)>();
    (any_line(), bytes(), want, any_patterns(), flags).prop_map(
        |(name, send, want, ignore, (once, closes, secret))| Exchange {
            name,
            send,
            want,
            several: None,
            ignore,
            once,
            closes,
            secret,
        },
    )
}

/// A message with these bytes in it, of at least as many bytes.
fn message(end: Option<&MessageEnd>, bytes: Vec<u8>, is_request: bool) -> Vec<u8> {
    let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match end {
        None => bytes,
        Some(MessageEnd::Length(format)) => {
            let mut message = vec![];
            format.encode(bytes.len() as u64, &mut message).expect("a short payload");
            [message, bytes].concat()
        }
        Some(MessageEnd::Varint { offset }) => {
            [vec![7; usize::from(*offset)], vec![bytes.len() as u8], bytes].concat()
        }
        // The end may not come earlier.
        Some(MessageEnd::Bytes(end)) => {
            let filler = (b'G'..=b'Z').find(|byte| !end.contains(byte)).expect("a short end");
            [vec![filler; bytes.len()], end.clone()].concat()
        }
        Some(MessageEnd::Resp) => format!("+{}\r\n", hex()).into_bytes(),
        Some(MessageEnd::Http) if is_request => {
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", hex()).into_bytes()
        }
        Some(MessageEnd::Http) => {
            format!("HTTP/1.1 204 No Content\r\nServer: {}\r\n\r\n", hex()).into_bytes()
        }
        Some(MessageEnd::Counted(_)) => format!("longword{}\n", hex()).into_bytes(),
    }
}

/// Requests as an effect and an upgrade have them: with nothing but their bytes, and a name.
fn any_request(name: &'static str) -> impl Strategy<Value = Exchange> {
    let request = |exchange: Exchange| Exchange {
        name: name.to_owned(),
        want: None,
        ignore: vec![],
        once: false,
        closes: false,
        secret: false,
        ..exchange
    };
    any_exchange().prop_map(request)
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let requests = (any_request("set"), any_request("get"), any_patterns());
    requests.prop_map(|(change, read, ignore)| Effect { change, read: Exchange { ignore, ..read } })
}

fn any_upgrade() -> impl Strategy<Value = Upgrade> {
    let to = prop_oneof![Just(UpgradeTo::Tls), "[a-s]{1,8}".prop_map(UpgradeTo::Other)];
    let rest = (any_pattern(), any::<bool>());
    (to, any_request("upgrade"), any_request("after"), rest).prop_map(
        |(to, request, after, (accepted, is_first))| Upgrade {
            to,
            request,
            accepted,
            after,
            is_first,
        },
    )
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    let ends = (
        prop::option::of(any_end()),
        prop::option::of(any_end()),
        prop::option::of(any_answer_end()),
    );
    let allow = (
        prop::option::of(any_allowance(Allowed::HalfClose)),
        prop::option::of(any_allowance(Allowed::Truncated)),
        prop::option::of(any_allowance(Allowed::Order)),
        prop::option::of(any_allowance(Allowed::Goodbye)),
    );
    let exchanges = (
        prop::collection::vec(any_exchange(), 0..2),
        prop::collection::vec(any_exchange(), 1..4),
        prop::option::of(any_exchange()),
        prop::option::of(any_effect()),
        prop::option::of(any_upgrade()),
    );
    let rest = (
        any_line(),
        (any_patterns(), any_patterns()),
        1..100u64,
        (17..20usize, 1..4usize),
        0..=1000u32,
    );
    (ends, allow, exchanges, rest).prop_map(|(ends, allow, exchanges, rest)| {
        let (request_end, first_request_end, answer_end) = ends;
        let (half_close, truncated, order, goodbye) = allow;
        let (mut before, mut exchanges, mut refused, effect, upgrade) = exchanges;
        let mut effect = effect.filter(|_| request_end.is_some() && answer_end.is_some());
        let (name, (ignore, mut unasked), max, (id_at, id_len), warm_up) = rest;
        if answer_end.as_ref().is_none_or(|end| end.message == MessageEnd::Http) {
            unasked.clear();
        }
        for (index, exchange) in before.iter_mut().chain(&mut exchanges).enumerate() {
            exchange.name.push_str(&index.to_string());
            let pattern = Pattern::parse("a.b").expect("a pattern");
            exchange.several = several_of(index, pattern).filter(|_| answer_end.is_some());
        }
        let of_effect = effect.iter_mut().flat_map(|it| [&mut it.change, &mut it.read]);
        let all = before.iter_mut().chain(&mut exchanges).chain(&mut refused).chain(of_effect);
        for exchange in all {
            let send = message(request_end.as_ref(), exchange.send.bytes(0), true);
            exchange.send = Template::of_bytes(send);
            if let Some(Want::Bytes(want)) = &mut exchange.want {
                let end = answer_end.as_ref().map(|end| &end.message);
                *want = Template::of_bytes(message(end, want.bytes(0), false));
            }
        }
        for before in &mut before {
            (before.once, before.closes) = (false, false);
        }
        if let Some(refused) = &mut refused {
            (refused.once, refused.closes) = (true, true);
        }
        let has_length =
            matches!(&request_end, Some(MessageEnd::Length(_) | MessageEnd::Varint { .. }));
        let id = id_at..id_at + id_len;
        Protocol {
            name,
            request_end,
            first_request_end,
            answer_end,
            max: Some(max).filter(|_| has_length),
            id: Some(IdPlaces { send: id.clone(), want: id }).filter(|_| id_len < 3),
            ignore,
            unasked,
            allow: [half_close, truncated, order, goodbye].into_iter().flatten().collect(),
            before,
            exchanges,
            refused,
            effect,
            upgrade,
            warm_up,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_protocol_that_is_written_is_read_back(protocol in any_protocol()) {
        let text = written(&protocol);
        let read = parse(text.as_bytes(), "FILE", &no_file);
        prop_assert_eq!(read.as_ref(), Ok(&protocol), "{}", text);
    }

    #[test]
    fn a_cut_or_changed_file_is_a_protocol_or_has_a_mistake_of_one_line(
        which in 0..5usize,
        at in any::<prop::sample::Index>(),
        text in prop_oneof![Just(""), Just("'"), Just("\n"), Just("5"), Just("[x]\n"), Just("ü")],
        cut in any::<bool>(),
    ) {
        let file = [DNS, REDIS, HTTP, KAFKA, PRICES][which];
        let at = at.index(file.len());
        let end = if cut { file.len() } else { at };
        let changed = [&file[..at], text, &file[end..]].concat();
        if let Err(mistake) = parse(changed.as_bytes(), "FILE", &no_file) {
            prop_assert!(mistake.starts_with("FILE:"), "{}", mistake);
            prop_assert!(!mistake.contains(char::is_control), "{}", mistake);
        }
    }
}
