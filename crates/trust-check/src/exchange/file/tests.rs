//! Exchange files: what they mean, and what is wrong with them.

use std::fs;

use proptest::prelude::*;
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
