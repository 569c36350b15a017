//! Exchange files: what they mean, and what is wrong with them.

mod round_trip;

use std::fs;

use trust_wire::{CountedLine, LengthFormat, MessageEnd};

use super::*;
use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{
    Allowance, Allowed, AllowedVerdict, AnswerEnd, Effect, Instead, Several, Upgrade, UpgradeTo,
};
use crate::exchange::template::Template;

const DNS: &str = r#"
name = "DNS over TCP"
[message]
length = "u16be"
id = { send = "2..4", want = "2..4" }
[allow]
order = { any = true, why = "RFC 7766 section 7" }
[[exchange]]
name = "A test.local"
send_hex = "001c 1234 0100 0001 0000 0000 0000 04 74657374 05 6c6f63616c 00 0001 0001"
"#;

const REDIS: &str = r#"
name = "Redis"
[message]
end = "resp"
[[before]]
send = "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
[[exchange]]
name = "echo with newlines in it"
send = "*2\r\n$4\r\nECHO\r\n$8\r\na\r\nb{n:04}\r\n"
want = "$8\r\na\r\nb{n:04}\r\n"
[refused]
send = "*1\r\n$-7\r\n"
want = "-ERR .*\r\n"
"#;

const HTTP: &str = r#"
name = "HTTP/1.1"
[message]
end = "http"
ignore = ['Date: [^\r\n]*', 'Set-Cookie: [^\r\n]*', 'X-Request-Id: [^\r\n]*']
[allow]
half_close = { instead = "close", verdict = "warn", why = "many servers take it for an abort" }
truncated = { instead = 'HTTP/1\.[01] 4[0-9][0-9] ', why = "RFC 9112" }
early = { any = true, why = "an answer may come before the body is read" }
goodbye = { instead = 'HTTP/1\.1 408 ', why = "RFC 9110" }
[[exchange]]
name = "GET"
send = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
[[exchange]]
name = "chunked"
send = """
POST /echo HTTP/1.1\r
Host: localhost\r
Transfer-Encoding: chunked\r
\r
3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n\
"""
"#;

const KAFKA: &str = r#"
name = "Kafka"
[message]
length = "u32be"
id = { send = "8..12", want = "4..8" }
[[exchange]]
name = "ApiVersions 0"
send_hex = "0000000b 0012 0000 00000001 0001 74"
want_hex = "?? ?? ?? ?? 00000001 0000 .."
"#;

const PRICES: &str = r#"
name = "prices"
warm_up = 2
[message]
length = "u32be"
max = 65536
[[exchange]]
name = "quote"
send = { framed = '{"op":"quote","sym":"X"}' }
ignore = ['"ts":[0-9]+']
[[exchange]]
once = true
send = { framed = '{"op":"sub","n":{n:03}}' }
[refused]
send_hex = "7fffffff"
"#;

fn no_file(name: &str) -> Result<Vec<u8>, String> {
    Err(format!("there is no {name}"))
}

fn parsed(text: &str) -> Protocol {
    parse(text.as_bytes(), "FILE", &no_file).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn mistake(text: &str) -> String {
    parse(text.as_bytes(), "FILE", &no_file).expect_err(text)
}

fn length(name: &str) -> MessageEnd {
    MessageEnd::Length(LengthFormat::parse(name).unwrap())
}

#[test]
fn dns_has_a_length_an_id_and_answers_in_any_order() {
    let dns = parsed(DNS);
    assert_eq!(dns.name, "DNS over TCP");
    assert_eq!(dns.request_end, Some(length("u16be")));
    let answer_end = AnswerEnd { message: length("u16be"), several: None };
    assert_eq!(dns.answer_end, Some(answer_end));
    assert_eq!(dns.id, Some(IdPlaces { send: 2..4, want: 2..4 }));
    let order = Allowance {
        of: Allowed::Order,
        instead: vec![Instead::Anything],
        verdict: AllowedVerdict::Allowed,
        why: "RFC 7766 section 7".to_owned(),
    };
    assert_eq!(dns.allow, [order]);
    assert_eq!(dns.exchanges[0].send.bytes(0).len(), 30);
    assert_eq!((dns.before.len(), dns.refused.is_none(), dns.warm_up), (0, true, 0));
}

#[test]
fn redis_has_a_prelude_numbers_and_a_refusal_that_is_a_pattern() {
    let redis = parsed(REDIS);
    assert_eq!(redis.request_end, Some(MessageEnd::Resp));
    assert_eq!(redis.before[0].name, "before 1");
    let exchange = &redis.exchanges[0];
    assert_eq!(exchange.send.bytes(7), b"*2\r\n$4\r\nECHO\r\n$8\r\na\r\nb0007\r\n");
    let Some(Want::Bytes(want)) = &exchange.want else { panic!("{exchange:?}") };
    assert_eq!(want.bytes(7), b"$8\r\na\r\nb0007\r\n");
    let refused = redis.refused.unwrap();
    let Some(Want::Pattern(want)) = &refused.want else { panic!("{refused:?}") };
    assert!(want.is_whole(b"-ERR Protocol error\r\n") && !want.is_whole(b"-ERR Protocol error"));
    assert!(refused.closes && refused.once);
}

#[test]
fn http_has_fields_to_ignore_and_things_that_are_allowed() {
    let http = parsed(HTTP);
    assert_eq!(http.request_end, Some(MessageEnd::Http));
    assert_eq!(http.ignore[0].places(b"a\r\nDate: Mon\r\n").first(), Some(&(3..12)));
    let of: Vec<_> = http.allow.iter().map(|allowance| (allowance.of, allowance.verdict)).collect();
    let expected = [
        (Allowed::HalfClose, AllowedVerdict::Warn),
        (Allowed::Truncated, AllowedVerdict::Allowed),
        (Allowed::Early, AllowedVerdict::Allowed),
        (Allowed::Goodbye, AllowedVerdict::Allowed),
    ];
    assert_eq!(of, expected);
    assert_eq!(http.allow[0].instead, [Instead::Close]);
    let [Instead::Pattern(bad_request)] = &http.allow[1].instead[..] else { panic!("a pattern") };
    assert!(bad_request.is_at_start(b"HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
fn kafka_has_bytes_that_are_not_known() {
    let kafka = parsed(KAFKA);
    let Some(Want::Pattern(want)) = &kafka.exchanges[0].want else { panic!("a pattern") };
    assert!(want.is_whole(b"\0\0\n\xff\0\0\0\x01\0\0 and more"));
    assert!(!want.is_whole(b"\0\0\n\xff\0\0\0\x02\0\0"));
}

#[test]
fn a_payload_is_sent_after_its_length() {
    let prices = parsed(PRICES);
    assert_eq!((prices.max, prices.warm_up), (Some(65_536), 2));
    let quote = br#"{"op":"quote","sym":"X"}"#;
    assert_eq!(prices.exchanges[0].send.bytes(5), [&[0, 0, 0, 24], &quote[..]].concat());
    let sub = br#"{"op":"sub","n":005}"#;
    assert_eq!(prices.exchanges[1].send.bytes(5), [&[0, 0, 0, 20], &sub[..]].concat());
    assert_eq!(prices.exchanges[1].name, "exchange 2");
    assert!(prices.exchanges[1].once && !prices.exchanges[0].once);
    assert_eq!(prices.refused.unwrap().want, None);
}

#[test]
fn directions_can_have_ends_of_their_own() {
    let text = r#"
[message]
length = "u32be"
offset = 1
adjust = -4
[message.request]
first = { length = "u32be+incl" }
[message.answer]
counted = { VALUE = 3, VA = 1 }
more = 'VALUE '
[[exchange]]
send = "Q\u0000\u0000\u0000\u0004"
[[exchange]]
send = "\u0000\u0000\u0000\u0004Q\u0000\u0000\u0000\u0004"
"#;
    let protocol = parsed(text);
    let typed = LengthFormat::parse("u32be").unwrap().with_offset(1).unwrap().with_adjust(-4);
    assert_eq!(protocol.request_end, typed.map(MessageEnd::Length));
    assert_eq!(protocol.first_request_end, Some(length("u32be+incl")));
    let answer = protocol.answer_end.unwrap();
    let line = |word: &str, count_at| CountedLine { word: word.into(), count_at };
    assert_eq!(answer.message, MessageEnd::Counted(vec![line("VA", 1), line("VALUE", 3)]));
    assert_eq!(answer.several, Some(Several::More(Pattern::parse("VALUE ").unwrap())));
}

#[test]
fn all_ways_to_end_a_message_are_understood() {
    let cases = [
        ("end = 'line'", "0a", MessageEnd::Bytes(b"\n".to_vec())),
        ("end_hex = '1c 0d'", "01 1c 0d", MessageEnd::Bytes(vec![0x1c, 0x0d])),
        ("varint = true", "00", MessageEnd::Varint { offset: 0 }),
        ("varint = true\noffset = 1", "c0 00", MessageEnd::Varint { offset: 1 }),
        ("length = 'u8'", "01 ff", length("u8")),
        ("end = 'resp'", "2b 0d 0a", MessageEnd::Resp),
    ];
    for (keys, send, expected) in cases {
        let protocol = parsed(&format!("[message]\n{keys}\n[[exchange]]\nsend_hex = '{send}'\n"));
        assert_eq!(protocol.request_end.as_ref(), Some(&expected), "{keys}");
        assert_eq!(protocol.answer_end.map(|end| end.message), Some(expected), "{keys}");
    }
}

#[test]
fn one_exchange_is_enough() {
    let protocol = parsed("exchange = [{ send = 'PING' }]");
    let exchange = Template::of_bytes(b"PING".to_vec());
    assert_eq!(protocol, Protocol::of_requests("FILE", vec![exchange]));
}

#[test]
fn a_server_that_speaks_first_needs_no_request() {
    let protocol = parsed("[[before]]\n[[exchange]]\nsend = 'x'");
    assert!(protocol.before[0].send.is_empty());
    let greeting = parsed("[[exchange]]\nsend = ''\nonce = true");
    assert!(greeting.exchanges[0].send.is_empty());
}

/// A file with this in it, and an exchange unless there is one.
fn with(text: &str) -> String {
    if text.is_empty() || text.contains("[[exchange]]") || text.contains("exchange =") {
        text.to_owned()
    } else {
        format!("{text}\n[[exchange]]\nsend = 'x'\n")
    }
}

#[test]
fn every_mistake_names_its_line_key_table_and_what_is_expected() {
    let names = "'resp', 'http' or 'line', or the bytes in end_hex";
    let cases = [
        ("", "FILE:1: exchange: missing: expected [[exchange]], and in it what is sent"),
        ("exchange = []", "FILE:1: exchange: missing: "),
        ("exchange = 5", "FILE:1: exchange: a number: expected [[exchange]]"),
        ("exchange = [5]", "FILE:1: exchange: a number: expected [[exchange]]"),
        ("exchange = { send = 'x' }", "FILE:1: exchange: a table: expected [[exchange]]"),
        ("[[exchange]]", "FILE:1: send in [[exchange]]: missing: expected send, send_hex or send_"),
        ("\n[[exchange]]\nname = 'x'", "FILE:2: send in [[exchange]]: missing: "),
        ("[[exchange]]\nsend = ''", "FILE:2: send in [[exchange]]: nothing is sent, so"),
        ("[[exchange]]\nsned = 'x'", "FILE:2: unknown key 'sned' in [[exchange]]: expected send"),
        (
            "[[exchange]]\nexpect = 'x'",
            "FILE:2: unknown key 'expect' in [[exchange]]: expected name, send, send_hex, ",
        ),
        ("[exchnage]\nsend = 'x'", "FILE:1: unknown key 'exchnage': expected exchange"),
        ("\n[mesage]\nlength = 'u8'", "FILE:2: unknown key 'mesage': expected message"),
        ("[message]\nlenght = 'u8'", "FILE:2: unknown key 'lenght' in [message]: expected length"),
        ("message = 5", "FILE:1: message: a number: expected a table"),
        ("name = ''", "FILE:1: name: '': expected one line of 1 to 200 characters"),
        ("name = \"a\\nb\"", "FILE:1: name: 'a\\nb': expected one line"),
        ("name = 5", "FILE:1: name: a number: expected a text"),
        ("warm_up = -1", "FILE:1: warm_up: '-1': expected a whole number from 0 to 1000"),
        ("warm_up = 1.5", "FILE:1: warm_up: a number: expected a whole number from 0 to 1000"),
        ("warm_up = 'x'", "FILE:1: warm_up: a text: expected a whole number from 0 to 1000"),
        ("[message]\nlength = 'u32'", "FILE:2: length in [message]: 'u32': expected u8"),
        ("[message]\nlength = 'u32bee'", "FILE:2: length in [message]: 'u32bee': expected u32be"),
        ("[message]\nlength = 'four'", "FILE:2: length in [message]: 'four': expected u8, u16be, "),
        ("[message]\nlength = 4", "FILE:2: length in [message]: a number: expected the name of a "),
        (
            "[message]\nlength = 'u8'\nadjust = -300",
            "FILE:2: length in [message]: u8 offset 0 adjust -300 can declare no message: expected",
        ),
        ("[message]\noffset = 1", "FILE:2: offset in [message]: no length to count from: expected"),
        ("[message]\nlength = 'u8'\noffset = 255", "FILE:3: offset in [message]: '255': expected"),
        ("[message]\nend = 'resp'\nadjust = 1", "FILE:3: adjust in [message]: no length to add to"),
        ("[message]\nend = 'lines'", "FILE:2: end in [message]: 'lines': expected 'line'"),
        ("[message]\nend = 'smtp'", &format!("FILE:2: end in [message]: 'smtp': expected {names}")),
        ("[message]\nend_hex = ''", "FILE:2: end_hex in [message]: 0 bytes: expected 1 to 64"),
        ("[message]\nend_hex = '0d 0'", "FILE:2:15: end_hex in [message]: a single digit '0'"),
        ("[message]\nvarint = false", "FILE:2: varint in [message]: false: expected true"),
        ("[message]\nvarint = 1", "FILE:2: varint in [message]: a number: expected true or false"),
        (
            "[message]\nend = 'http'\nlength = 'u8'",
            "FILE:2: end in [message]: cannot be used with length: expected one of both",
        ),
        ("[message]\ncounted = 3", "FILE:2: counted in [message]: a number: expected a table from"),
        ("[message]\ncounted = {}", "FILE:2: counted in [message]: 0 words: expected 1 to 100"),
        ("[message]\ncounted = { A = 0 }", "FILE:2: A in [message.counted]: 0 is the word itself"),
        ("[message]\ncounted = { 'A B' = 1 }", "FILE:2: counted in [message]: the word 'A B': ex"),
        (
            "[message]\nend = 'resp'\nmax = 5",
            "FILE:3: max in [message]: no length field that could",
        ),
        (
            "[message]\nlength = 'u8'\nmax = 256",
            "FILE:3: max in [message]: 256: expected at most 255",
        ),
        (
            "[message]\nlength = 'u8'\nmax = 0",
            "FILE:3: max in [message]: '0': expected a whole num",
        ),
        ("[message]\nid = '2..4'", "FILE:2: id in [message]: a text: expected a table"),
        ("[message]\nid = { send = '2..4' }", "FILE:2: want in [message.id]: missing: expected a "),
        (
            "[message]\nid = { send = '4..2', want = '0..2' }",
            "FILE:2: send in [message.id]: '4..2'",
        ),
        (
            "[message]\nid = { send = '+1..2', want = '0..1' }",
            "FILE:2: send in [message.id]: '+1..",
        ),
        (
            "[message]\nid = { send = '2..4', want = '0..4' }",
            "FILE:2: want in [message.id]: 4 bytes, and send has 2: expected as many",
        ),
        (
            "[message]\nlength = 'u16be'\nid = { send = '1..3', want = '2..4' }",
            "FILE:3: send in [message.id]: '1..3': the length field is at 0..2: expected other",
        ),
        (
            "[message]\nid = { send = '2..4', want = '0..2' }",
            "FILE:4: send in [[exchange]]: 1 bytes: expected at least 4, because of id",
        ),
        ("[message]\nlast = 'x'", "FILE:2: last in [message]: no end of a message to look at: "),
        (
            "[[exchange]]\nsend = 'x'\nmore = 'x'",
            "FILE:3: more in [[exchange]]: no end of a message to look at: ",
        ),
        ("[message]\nunasked = ['x']", "FILE:2: unasked in [message]: no end of a message to look"),
        (
            "[message]\nend = 'http'\nunasked = ['x']",
            "FILE:3: unasked in [message]: in HTTP nothing comes that was not asked for",
        ),
        (
            "[message]\nend = 'line'\nlast = 'x'\nanswer = { more = 'y' }",
            "FILE:4: more in [message.answer]: a second one after last: expected last or more",
        ),
        (
            "[message.request]\nfirst = {}",
            "FILE:2: first in [message.request]: no end of the message: expected length, ",
        ),
        ("[message]\nignore = 'x'", "FILE:2: ignore in [message]: a text: expected a list of patt"),
        ("[message]\nignore = [5]", "FILE:2: ignore in [message]: a number in it: expected a list"),
        ("[message]\nignore = [\n'a',\n'(']", "FILE:4: ignore in [message]: "),
        (
            "[allow]\nhalf_closed = {}",
            "FILE:2: unknown key 'half_closed' in [allow]: expected half",
        ),
        ("[allow]\nearly = { any = true }", "FILE:2: why in [allow.early]: missing: expected the "),
        ("[allow]\nearly = { why = 'x' }", "FILE:2: instead in [allow.early]: missing: expected "),
        ("[allow]\nearly = { any = false, why = 'x' }", "FILE:2: any in [allow.early]: false: "),
        (
            "[allow]\nearly = { any = true, instead = 'close', why = 'x' }",
            "FILE:2: instead in [allow.early]: cannot be used with any: expected one of both",
        ),
        (
            "[allow.early]\ninstead = 'closed'\nwhy = 'x'",
            "FILE:2: instead in [allow.early]: 'closed': expected 'close'",
        ),
        ("[allow.early]\ninstead = '('\nwhy = 'x'", "FILE:2: instead in [allow.early]: "),
        (
            "[allow.early]\ninstead = []\nwhy = 'x'",
            "FILE:2: instead in [allow.early]: empty: expected 'close', 'first', 'nothing' or a",
        ),
        (
            "[allow.early]\ninstead = [\n'close',\n'frist']\nwhy = 'x'",
            "FILE:4: instead in [allow.early]: 'frist': expected 'first'",
        ),
        (
            "[allow.login]\ninstead = 'close'\nwhy = 'x'",
            "FILE:2: instead in [allow.login]: expected a pattern",
        ),
        (
            "[allow.early]\nany = true\nverdict = 'fail'\nwhy = 'x'",
            "FILE:3: verdict in [allow.early]: 'fail': expected 'allowed', 'warn' or 'info'",
        ),
        ("[[exchange]]\nsend = 5", "FILE:2: send in [[exchange]]: a number: expected a text, or "),
        (
            "[[exchange]]\nsend = 'x'\nsend_hex = '00'",
            "FILE:3: send_hex in [[exchange]]: cannot be used with send: expected one of both",
        ),
        (
            "[[exchange]]\nsend = { frame = 'x' }",
            "FILE:2: unknown key 'frame' in [exchange.send]: ",
        ),
        (
            "[[exchange]]\nsend = { framed = 'x' }",
            "FILE:2: framed in [exchange.send]: no length to put in front: expected length in ",
        ),
        (
            "message = { length = 'u8' }\n[[exchange]]\nsend = { framed = '{n}' }",
            "FILE:3: framed in [exchange.send]: {n} has as many digits as it needs: expected",
        ),
        (
            &format!(
                "message = {{ length = 'u8' }}\n[[exchange]]\nsend = {{ framed = '{}' }}",
                "x".repeat(256)
            ),
            "FILE:3: framed in [exchange.send]: no header declares a payload of 256 bytes: expect",
        ),
        (
            "[[exchange]]\nsend_file = 'x.bin'",
            "FILE:2: send_file in [[exchange]]: 'x.bin': there is no x.bin",
        ),
        ("[[exchange]]\nsend = 'x'\nwant_pattern = '('", "FILE:3: want_pattern in [[exchange]]: "),
        (
            "[[exchange]]\nsend = 'x{n}'\nwant_pattern = 'x{n}'",
            "FILE:3: want_pattern in [[exchange]]: a pattern has no number of the request: ",
        ),
        (
            "[[exchange]]\nsend = 'x'\nonce = 'yes'",
            "FILE:3: once in [[exchange]]: a text: expected",
        ),
        ("[[before]]\nonce = true", "FILE:2: unknown key 'once' in [[before]]: expected name, "),
        ("[refused]\nwant = 'x'", "FILE:1: send in [refused]: missing: expected send, "),
        ("[refused]\nsend = ''", "FILE:2: send in [refused]: empty: expected a request that"),
        ("[refused]\nsend = 'x'\nwant = '('", "FILE:3: want in [refused]: "),
        (
            "[[exchange]]\nsend = 'x'\nname = 'a'\n[[exchange]]\nsend = 'x'\nname = 'a'",
            "FILE:6: name in [[exchange]]: a second 'a': expected another name",
        ),
        ("[effect]\nsend = 'x'", "FILE:1: read in [effect]: missing: expected [effect.read], and "),
        (
            "[effect.read]\nsend = 'x'",
            "FILE:1: effect: expected [message] too: a part of a request ",
        ),
        (
            "[message]\nend_hex = '78'\n[effect.read]\nsend = 'x'",
            "FILE:3: send in [effect]: missing: expected send, send_hex or send_file",
        ),
        (
            "[message]\nend_hex = '78'\n[effect]\nsend = 'xx'\nread = { send = 'x' }",
            "FILE:4: send in [effect]: the first message ends after 1 byte: expected one message",
        ),
        (
            "[message]\nend_hex = '78'\n[effect]\nsend = 'x'\nread = { send = 'y' }",
            "FILE:5: send in [effect.read]: the message from byte 0 on is not whole: expected ",
        ),
        (
            "[message]\nend_hex = '78'\n[effect]\nignore = []\nread = {}",
            "FILE:4: unknown key 'ignore' in [effect]: expected ",
        ),
        (
            "[upgrade]\nsend = 'x'",
            "FILE:1: to in [upgrade]: missing: expected 'tls' or the name of ",
        ),
        ("[upgrade]\nto = 'tls'", "FILE:1: want in [upgrade]: missing: expected a pattern of the "),
        (
            "[upgrade]\nto = 'tls'\nwant = 'x'",
            "FILE:1: send in [upgrade]: missing: expected send, send_hex or send_file",
        ),
        (
            "[upgrade]\nto = 'tls'\nwant = 'x'\nsend = 'x'\nafter = ''",
            "FILE:5: after in [upgrade]: missing: expected what is sent after the request, in the ",
        ),
        (
            "[upgrade]\nto = 'tls'\nwant = 'x'\nsend = 'x'\nafter_hex = '0'",
            "FILE:5:14: after_hex in [upgrade]: ",
        ),
    ];
    let mut wrong = vec![];
    for (text, expected) in cases {
        let mistake = mistake(&with(text));
        if !mistake.starts_with(expected) || mistake.contains(char::is_control) {
            wrong.push(format!("{text:?}\n  {mistake:?}\n  {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_whole_message_is_refused() {
    let file = |message: &str, exchange: &str| {
        format!("message = {{ {message} }}\n[[exchange]]\n{exchange}\n")
    };
    let not_whole = "is not whole: expected more bytes, or another end in [message]";
    let cases = [
        (
            file("length = 'u16be'", "send_hex = '0001 ff 0002 ff'"),
            format!("FILE:3: send_hex in [[exchange]]: the message from byte 3 on {not_whole}"),
        ),
        (
            file("end = 'line'", "send = 'PING'"),
            format!("FILE:3: send in [[exchange]]: the message from byte 0 on {not_whole}"),
        ),
        (
            file("end = 'resp'", "send = \"PING\\r\\n\"\nwant = \"+PONG\\r\\n$4\\r\\nabc\\r\\n\""),
            "FILE:4: want in [[exchange]]: byte 15 cannot be in a message: expected ".to_owned(),
        ),
        (
            file("length = 'u16be+incl'", "send_hex = '0001'"),
            "FILE:3: send_hex in [[exchange]]: byte 1 cannot be in a message: ".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        let mistake = mistake(&text);
        assert!(mistake.starts_with(&expected), "{mistake:?}\nexpected {expected:?}\n{text}");
    }
    parsed(&file(
        "end = 'resp'",
        "send = \"PING\\r\\nPING\\r\\n\"\nwant = \"+PONG\\r\\n:1\\r\\n\"",
    ));
}

#[test]
fn a_wrong_digit_is_found_in_the_file() {
    let cases = [
        ("[[exchange]]\nsend_hex = '00 1'", "FILE:2:16: send_hex in [[exchange]]: a single digit"),
        ("[[exchange]]\nsend_hex = \"ü\"", "FILE:2:13: send_hex in [[exchange]]: 'ü': expected h"),
        ("[[exchange]]\nsend_hex = '''\n00\n 0g'''", "FILE:4:3: send_hex in [[exchange]]: 'g'"),
        ("[[exchange]]\nsend_hex = \"\"\"00\n??\"\"\"", "FILE:3:1: send_hex in [[exchange]]: '??'"),
        ("[[exchange]]\nsend_hex = \"00\\t0\"", "FILE:2: send_hex in [[exchange]]: column 4: a si"),
        ("[[exchange]]\nsend = 'x'\nwant_hex = '.'", "FILE:3:13: want_hex in [[exchange]]: a sing"),
    ];
    for (text, expected) in cases {
        let mistake = mistake(text);
        assert!(mistake.starts_with(expected), "{mistake:?}\nexpected {expected:?}\n{text}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    for text in ["\n[message", "\nname = ", "a = 1\na = 2", "[message]\nmax = 1 2"] {
        let mistake = mistake(text);
        assert!(mistake.starts_with("FILE:2: "), "{mistake}");
        assert!(!mistake.contains(char::is_control), "{mistake:?}");
    }
    let mistake = parse(b"\n\n# \xff", "FILE", &no_file).unwrap_err();
    assert_eq!(mistake, "FILE:3: not UTF-8");
}

#[test]
fn what_is_too_large_is_refused() {
    let large = " ".repeat(FILE_BYTES_MAX + 1);
    assert_eq!(mistake(&large), "FILE: 1048577 bytes: expected at most 1 MiB");
    let many = "[[exchange]]\nsend = 'x'\n".repeat(EXCHANGES_MAX + 1);
    assert_eq!(mistake(&many), "FILE:2001: exchange: 1001 of them: expected at most 1000");
    let text = "[[exchange]]\nsend_file = 'a'\n[[exchange]]\nsend_file = 'b'";
    let file = |_: &str| Ok(vec![0; FILES_BYTES_MAX / 2 + 1]);
    let mistake = parse(text.as_bytes(), "FILE", &file).unwrap_err();
    let expected = "'b': too large: expected at most 16 MiB in all files";
    assert_eq!(mistake, format!("FILE:4: send_file in [[exchange]]: {expected}"));
}

#[test]
fn files_are_read_from_the_directory_of_the_exchange_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.toml");
    fs::write(directory.path().join("request.bin"), b"\0{n}\xff").unwrap();
    fs::write(&path, "[[exchange]]\nsend_file = 'request.bin'").unwrap();
    let protocol = read(&path).unwrap();
    assert_eq!(protocol.name, "mine");
    assert_eq!(protocol.exchanges[0].send.bytes(7), b"\0{n}\xff", "a file has no places");

    fs::write(&path, "[[exchange]]\nsend_file = '.'").unwrap();
    assert!(read(&path).unwrap_err().ends_with(": '.': not a regular file"));
    let missing = read(&directory.path().join("other.toml")).unwrap_err();
    assert!(missing.starts_with("cannot read "), "{missing}");
    assert!(missing.ends_with("other.toml: No such file or directory"), "{missing}");
}
