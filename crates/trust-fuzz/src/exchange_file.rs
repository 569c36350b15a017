//! The exchange file, and requests in flags: any bytes are a protocol that does not contradict
//! itself, or a mistake in one line with its place.

use std::collections::HashSet;

use trust_check::exchange::escapes::{hex_request, text_request, unescape};
use trust_check::exchange::file;
use trust_check::exchange::pattern::Pattern;
use trust_check::exchange::protocol::{Effect, Exchange, Instead, Protocol, Upgrade, Want};
use trust_check::exchange::template::Template;
use trust_cli::exchange_file::bad_text::BadText;
use trust_cli::exchange_file::hex::parse_hex;

use crate::oneline::check_line;

/// The bytes of every other file that the exchange file names, except of `none`.
const OTHER_FILE: &[u8] = b"\0\xff{n}\r\n";

/// Input: the file; if it is text, also a request in a flag.
///
/// # Panics
///
/// If a mistake does not name its place, or an accepted protocol contradicts itself.
pub fn run(data: &[u8]) {
    let read_file = |name: &str| match name {
        "none" => Err("no such file".to_owned()),
        _ => Ok(OTHER_FILE.to_vec()),
    };
    match file::parse(data, "FILE", &read_file) {
        Ok(protocol) => check_protocol(&protocol),
        Err(message) => check_message(&message, data),
    }
    if let Ok(text) = std::str::from_utf8(data) {
        check_request(text, unescape(text), text_request(text));
        check_request(text, parse_hex(text), hex_request(text));
    }
}

fn check_message(message: &str, data: &[u8]) {
    check_line(message);
    let said = message.strip_prefix("FILE:").expect("the file is named");
    let (place, what) = said.split_once(": ").expect("the place is named");
    let (line, column) = place.split_once(':').unwrap_or((place, "1"));
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let line: usize = line.parse().expect("the line is a number");
    let column: usize = column.parse().expect("the column is a number");
    assert!((1..=lines.len()).contains(&line), "of {} lines: {said}", lines.len());
    assert!((1..=lines[line - 1].len() + 1).contains(&column), "{said}");
    assert!(!what.is_empty());
    if what.starts_with("unknown") {
        assert!(what.contains(": expected "), "{what}");
    }
}

fn check_protocol(protocol: &Protocol) {
    let Protocol { name, max, id, ignore, allow, before, exchanges, refused, .. } = protocol;
    check_line(name);
    assert!(!exchanges.is_empty());
    assert_ne!(*max, Some(0));
    let mut names = HashSet::new();
    for exchange in before.iter().chain(exchanges) {
        check_exchange(exchange);
        assert!(names.insert(&exchange.name), "{} twice", exchange.name);
    }
    if let Some(refused) = refused {
        check_exchange(refused);
        assert!(!refused.send.is_empty());
    }
    if let Some(Effect { change, read }) = &protocol.effect {
        for exchange in [change, read] {
            check_exchange(exchange);
            assert!(!exchange.send.is_empty());
        }
        assert!(protocol.request_end.is_some() && protocol.answer_end.is_some());
    }
    if let Some(Upgrade { request, accepted, after, .. }) = &protocol.upgrade {
        for exchange in [request, after] {
            check_exchange(exchange);
            assert!(!exchange.send.is_empty());
        }
        check_pattern(accepted);
    }
    if let Some(id) = id {
        assert_eq!(id.send.len(), id.want.len());
        assert!(!id.send.is_empty());
        assert!(exchanges.iter().all(|it| it.send.bytes(0).get(id.send.clone()).is_some()));
    }
    if let Some(end) = &protocol.answer_end {
        end.several.iter().for_each(|several| check_pattern(several.key().1));
    }
    ignore.iter().for_each(check_pattern);
    for (index, allowance) in allow.iter().enumerate() {
        check_line(&allowance.why);
        assert!(allow[..index].iter().all(|other| other.of != allowance.of), "{allow:?}");
        for instead in &allowance.instead {
            let Instead::Pattern(pattern) = instead else { continue };
            check_pattern(pattern);
        }
    }
}

fn check_exchange(exchange: &Exchange) {
    check_line(&exchange.name);
    check_template(&exchange.send);
    exchange.ignore.iter().for_each(check_pattern);
    match &exchange.want {
        Some(Want::Bytes(want)) => check_template(want),
        Some(Want::Pattern(pattern)) => check_pattern(pattern),
        None => {}
    }
}

/// Copies differ if there is a number in them, and only in their length if they may.
fn check_template(template: &Template) {
    let (zero, one) = (template.bytes(0), template.bytes(1));
    assert_eq!(zero != one, template.has_number());
    assert_eq!(zero.is_empty(), template.is_empty());
    if template.is_fixed_length() {
        assert_eq!(template.bytes(u64::MAX).len(), zero.len());
    }
}

fn check_pattern(pattern: &Pattern) {
    let bytes = b"\0a\xffb\r\nHTTP/1.1 408 x\r\n{n}0123";
    let mut end = 0;
    for place in pattern.places(bytes) {
        assert!(end <= place.start && place.start < place.end && place.end <= bytes.len());
        end = place.end;
    }
    assert_eq!(pattern.len_at_start(bytes).is_some(), pattern.is_at_start(bytes));
    if pattern.is_whole(bytes) {
        assert!(pattern.is_at_start(bytes), "{}", pattern.source());
    }
}

/// A request in a flag, of which `bytes` was read before its places.
fn check_request(text: &str, bytes: Result<Vec<u8>, BadText>, request: Result<Template, String>) {
    match (bytes, request) {
        (Ok(bytes), Ok(request)) => {
            assert!(!request.is_empty() && !bytes.is_empty());
            assert!(request.has_number() || request.bytes(0) == bytes);
        }
        (Ok(bytes), Err(message)) => {
            check_line(&message);
            assert!(bytes.is_empty());
        }
        (Err(error), Err(message)) => {
            assert!(error.at <= text.len());
            check_line(&message);
            assert_eq!(message, error.with_place(text));
        }
        (Err(error), Ok(_)) => panic!("{error:?}"),
    }
}
