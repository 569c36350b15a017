//! A protocol as the text of an exchange file, with comments.

use std::fmt::Write as _;

use trust_cli::text::grouped;
use trust_wire::{CountedLine, MessageEnd};

use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{
    Allowance, AllowedVerdict, AnswerEnd, Effect, Exchange, Instead, Protocol, Several, Upgrade,
    UpgradeTo, Want,
};
use crate::exchange::template::Template;

/// Bytes in a line of hexadecimal digits.
const HEX_LINE: usize = 32;

/// A protocol, and comments on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The protocol; without a name it gets that of the file.
    pub protocol: Protocol,
    /// Comments at the beginning.
    pub about: Vec<String>,
    /// Comments in `[message]`.
    pub message: Vec<String>,
    /// Comments on patterns of `[message]`, by their number.
    pub ignore: Vec<(usize, String)>,
    /// Comments on each `[[before]]`.
    pub before: Vec<Vec<String>>,
    /// Comments on each `[[exchange]]`.
    pub exchanges: Vec<Vec<String>>,
}

impl Draft {
    /// Of which nothing is said.
    pub fn new(protocol: Protocol) -> Draft {
        let nothing = |exchanges: &[Exchange]| vec![vec![]; exchanges.len()];
        let (before, exchanges) = (nothing(&protocol.before), nothing(&protocol.exchanges));
        Draft { protocol, about: vec![], message: vec![], ignore: vec![], before, exchanges }
    }

    /// The text of an exchange file, from which the same protocol is read.
    pub fn text(&self) -> String {
        let protocol = &self.protocol;
        let mut text = String::new();
        comments(&mut text, &self.about);
        // Without a name it is that of the file.
        let name = Some(&protocol.name).filter(|name| !name.is_empty());
        if name.is_some() || protocol.warm_up > 0 {
            text.push('\n');
        }
        if let Some(name) = name {
            let _ = writeln!(text, "name = {}", string(name));
        }
        if protocol.warm_up > 0 {
            let _ = writeln!(text, "warm_up = {}", protocol.warm_up);
        }
        self.message(&mut text);
        allowed(&mut text, &protocol.allow);
        for (exchange, about) in protocol.before.iter().zip(&self.before) {
            table(&mut text, "[[before]]", about);
            of_exchange(&mut text, exchange, false);
        }
        for (exchange, about) in protocol.exchanges.iter().zip(&self.exchanges) {
            table(&mut text, "[[exchange]]", about);
            of_exchange(&mut text, exchange, false);
        }
        if let Some(refused) = &protocol.refused {
            table(&mut text, "[refused]", &[]);
            // Its want is a pattern, and that it ends the connection is not said.
            let plain = Exchange { once: false, closes: false, ..refused.clone() };
            of_exchange(&mut text, &plain, true);
        }
        if let Some(Effect { change, read }) = &protocol.effect {
            for (name, exchange) in [("[effect]", change), ("[effect.read]", read)] {
                table(&mut text, name, &[]);
                of_exchange(&mut text, exchange, false);
            }
        }
        if let Some(upgrade) = &protocol.upgrade {
            of_upgrade(&mut text, upgrade);
        }
        text
    }

    fn message(&self, text: &mut String) {
        let protocol = &self.protocol;
        let answer = protocol.answer_end.as_ref().map(|end| &end.message);
        let both = protocol.request_end.as_ref().filter(|end| Some(*end) == answer);
        let mut keys = both.map_or_else(String::new, end_keys);
        if let Some(max) = protocol.max {
            let _ = writeln!(keys, "max = {max}");
        }
        if let Some(id) = &protocol.id {
            let (send, want) = (&id.send, &id.want);
            let _ = writeln!(
                keys,
                "id = {{ send = \"{}..{}\", want = \"{}..{}\" }}",
                send.start, send.end, want.start, want.end
            );
        }
        ignore(&mut keys, &protocol.ignore, &self.ignore);
        let request = protocol.request_end.as_ref().filter(|_| both.is_none());
        let answer =
            protocol.answer_end.as_ref().filter(|end| both.is_none() || end.several.is_some());
        let first = protocol.first_request_end.as_ref();
        if keys.is_empty() && request.or(first).is_none() && answer.is_none() {
            if !self.message.is_empty() {
                text.push('\n');
                comments(text, &self.message);
            }
            return;
        }
        table(text, "[message]", &self.message);
        text.push_str(&keys);
        if request.or(first).is_some() {
            table(text, "[message.request]", &[]);
            text.push_str(&request.map_or_else(String::new, end_keys));
            if let Some(first) = first {
                table(text, "[message.request.first]", &[]);
                text.push_str(&end_keys(first));
            }
        }
        if let Some(AnswerEnd { message, several: told }) = answer {
            table(text, "[message.answer]", &[]);
            if both.is_none() {
                text.push_str(&end_keys(message));
            }
            several(text, told.as_ref());
        }
    }
}

fn several(text: &mut String, several: Option<&Several>) {
    if let Some((key, pattern)) = several.map(Several::key) {
        let _ = writeln!(text, "{key} = {}", of_pattern(pattern));
    }
}

/// The keys of an end, in words for a comment too.
pub(super) fn end_keys(end: &MessageEnd) -> String {
    let mut keys = String::new();
    let mut key = |name: &str, value: String| {
        let _ = writeln!(keys, "{name} = {value}");
    };
    match end {
        MessageEnd::Length(format) => {
            // `u32be offset 1 adjust -4`
            let shown = format.to_string();
            let mut words = shown.split(' ');
            key("length", string(words.next().unwrap_or_default()));
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                key(name, value.to_owned());
            }
        }
        MessageEnd::Varint { offset } => {
            key("varint", "true".to_owned());
            if *offset > 0 {
                key("offset", offset.to_string());
            }
        }
        MessageEnd::Bytes(last) if last == b"\n" => key("end", string("line")),
        MessageEnd::Bytes(last) => key("end_hex", hex(last)),
        MessageEnd::Resp => key("end", string("resp")),
        MessageEnd::Http => key("end", string("http")),
        MessageEnd::Counted(lines) => {
            let words = lines.iter().map(|CountedLine { word, count_at }| {
                format!("{} = {count_at}", string(&String::from_utf8_lossy(word)))
            });
            key("counted", format!("{{ {} }}", words.collect::<Vec<_>>().join(", ")));
        }
    }
    keys
}

fn table(text: &mut String, name: &str, about: &[String]) {
    let _ = writeln!(text, "\n{name}");
    comments(text, about);
}

/// Lines of which none can leave its comment.
fn comments(text: &mut String, lines: &[String]) {
    for line in lines {
        let line: String = line.chars().map(|it| if it.is_control() { '?' } else { it }).collect();
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
}

/// `None` for anything.
fn of_instead(instead: &Instead) -> Option<String> {
    match instead {
        Instead::Anything => None,
        Instead::Close => Some(string("close")),
        Instead::First => Some(string("first")),
        Instead::Nothing => Some(string("nothing")),
        Instead::Pattern(pattern) => Some(of_pattern(pattern)),
    }
}

fn allowed(text: &mut String, allow: &[Allowance]) {
    for Allowance { of, instead, verdict, why } in allow {
        table(text, &format!("[allow.{}]", of.key()), &[]);
        let told: Vec<_> = instead.iter().filter_map(of_instead).collect();
        let _ = match &told[..] {
            [] => writeln!(text, "any = true"),
            [one] => writeln!(text, "instead = {one}"),
            several => writeln!(text, "instead = [{}]", several.join(", ")),
        };
        match verdict {
            AllowedVerdict::Allowed => {}
            AllowedVerdict::Warn => text.push_str("verdict = \"warn\"\n"),
            AllowedVerdict::Info => text.push_str("verdict = \"info\"\n"),
        }
        let _ = writeln!(text, "why = {}", string(why));
    }
}

fn of_exchange(text: &mut String, exchange: &Exchange, is_refused: bool) {
    let _ = writeln!(text, "name = {}", string(&exchange.name));
    text.push_str(&template("send", &exchange.send));
    match &exchange.want {
        Some(Want::Bytes(bytes)) if is_refused => {
            let _ = writeln!(text, "want_hex = {}", hex(&bytes.bytes(0)));
        }
        Some(Want::Bytes(bytes)) => text.push_str(&template("want", bytes)),
        Some(Want::Pattern(pattern)) => {
            let key = if is_refused { "want" } else { "want_pattern" };
            let _ = writeln!(text, "{key} = {}", of_pattern(pattern));
        }
        None => {}
    }
    several(text, exchange.several.as_ref());
    ignore(text, &exchange.ignore, &[]);
    let flags = [("once", exchange.once), ("closes", exchange.closes), ("secret", exchange.secret)];
    for (name, _) in flags.iter().filter(|(_, is_on)| *is_on) {
        let _ = writeln!(text, "{name} = true");
    }
}

fn of_upgrade(text: &mut String, upgrade: &Upgrade) {
    let Upgrade { to, request, accepted, after, is_first } = upgrade;
    table(text, "[upgrade]", &[]);
    let to = match to {
        UpgradeTo::Tls => "tls",
        UpgradeTo::Other(name) => name,
    };
    let _ = writeln!(text, "to = {}", string(to));
    text.push_str(&template("send", &request.send));
    let _ = writeln!(text, "want = {}", of_pattern(accepted));
    text.push_str(&template("after", &after.send));
    if *is_first {
        text.push_str("first = true\n");
    }
}

fn ignore(text: &mut String, patterns: &[Pattern], about: &[(usize, String)]) {
    match (patterns, about) {
        ([], _) => {}
        ([pattern], []) => {
            let _ = writeln!(text, "ignore = [{}]", of_pattern(pattern));
        }
        _ => {
            text.push_str("ignore = [\n");
            for (place, pattern) in patterns.iter().enumerate() {
                for (_, why) in about.iter().filter(|(of, _)| *of == place) {
                    text.push_str("    ");
                    comments(text, std::slice::from_ref(why));
                }
                let _ = writeln!(text, "    {},", of_pattern(pattern));
            }
            text.push_str("]\n");
        }
    }
}

/// Bytes as text, if they are text and have no other meaning then, or in hexadecimal.
fn template(key: &str, template: &Template) -> String {
    let source = template.source();
    let is_readable = |text: &&str| {
        text.chars().all(|it| !it.is_control() || matches!(it, '\r' | '\n' | '\t' | '\0'))
    };
    let text = std::str::from_utf8(&source).ok().filter(is_readable);
    match text.filter(|text| Template::parse(text.as_bytes()) == *template) {
        Some(text) => format!("{key} = {}\n", string(text)),
        None => {
            let bytes = template.bytes(0);
            let about = match template.has_number() {
                true => "# {n} cannot stand beside bytes that are no text: it is 0 here.\n",
                false => "",
            };
            format!("{about}{key}_hex = {}\n", hex(&bytes))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| {
        let pairs: Vec<String> = bytes
            .chunks(2)
            .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        pairs.join(" ")
    };
    match bytes.len() {
        ..=HEX_LINE => format!("\"{}\"", line(bytes)),
        _ => {
            let lines: Vec<String> = bytes.chunks(HEX_LINE).map(line).collect();
            format!("\"\"\"\n{}\n\"\"\"", lines.join("\n"))
        }
    }
}

/// In single quotes, between which backslashes are themselves, where that is possible.
fn of_pattern(pattern: &Pattern) -> String {
    let source = pattern.source();
    match source.contains(|it: char| it == '\'' || it.is_control()) {
        true => string(source),
        false => format!("'{source}'"),
    }
}

/// A string with escapes (TOML 1.0, "String").
fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Bytes for a comment: as text with escapes, or only how many they are.
pub(super) fn described(bytes: &[u8], is_secret: bool) -> String {
    match is_secret {
        true => format!("({} bytes)", grouped(bytes.len() as u64)),
        false => crate::exchange::difference::shown(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trust_cli::exchange_file::dialects::DIALECTS;

    use super::*;
    use crate::exchange::{dialect, file};

    #[track_caller]
    fn read_again(draft: &Draft) -> Protocol {
        let text = draft.text();
        let no_file = |_: &str| Err("no file".to_owned());
        file::parse(text.as_bytes(), "draft.toml", &no_file)
            .unwrap_or_else(|error| panic!("{error} in\n{text}"))
    }

    #[test]
    fn every_dialect_is_the_same_when_it_is_written_and_read_again() {
        for known in DIALECTS {
            let protocol = dialect::protocol(known, None).unwrap();
            assert_eq!(read_again(&Draft::new(protocol.clone())), protocol, "{}", known.name);
        }
    }

    #[test]
    fn an_answer_in_bytes_to_what_is_refused_is_no_pattern() {
        let text = "[[exchange]]\nsend = \"x\"\n[refused]\nsend = \"!\"\nwant_hex = \"2e2a\"\n";
        let protocol = file::parse(text.as_bytes(), "draft.toml", &|_| Err(String::new())).unwrap();
        assert_eq!(read_again(&Draft::new(protocol.clone())), protocol);
    }

    #[test]
    fn a_comment_stays_one() {
        let request = Template::parse(b"hello\n");
        let mut draft = Draft::new(Protocol::of_requests("lines", vec![request]));
        let bad = "so\nname = \"other\"\u{85}\u{0}".to_owned();
        draft.about.push(bad.clone());
        draft.message.push(bad.clone());
        draft.protocol.ignore.push(Pattern::parse("x+").unwrap());
        draft.ignore.push((0, bad.clone()));
        draft.exchanges[0].push(bad);
        assert_eq!(read_again(&draft), draft.protocol);
    }

    #[test]
    fn a_number_beside_bytes_that_are_no_text_is_written_out() {
        let request = Template::parse(b"\xff{n:04}");
        let draft = Draft::new(Protocol::of_requests("binary", vec![request]));
        assert!(draft.text().contains("# {n} cannot stand"), "{}", draft.text());
        assert_eq!(read_again(&draft).exchanges[0].send.bytes(7), b"\xff0000");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn requests_of_any_bytes_are_read_again(
            requests in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 1..80),
                    "[ -~\r\n\t]{1,40}".prop_map(String::into_bytes),
                    "(\\{n\\}|\\{n:04\\}|\"|\\\\|a|\u{fc}){1,9}".prop_map(String::into_bytes),
                ],
                1..4,
            ),
            is_text in any::<bool>(),
        ) {
            let of = |bytes: Vec<u8>| match is_text && bytes.is_ascii() {
                true => Template::parse(&bytes),
                false => Template::of_bytes(bytes),
            };
            let requests: Vec<_> = requests.into_iter().map(of).collect();
            let draft = Draft::new(Protocol::of_requests("any", requests));
            let again = read_again(&draft);
            for (again, exchange) in again.exchanges.iter().zip(&draft.protocol.exchanges) {
                prop_assert_eq!(again.send.bytes(0), exchange.send.bytes(0));
            }
        }
    }
}
