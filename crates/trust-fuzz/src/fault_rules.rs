//! Fault rules: any text is refused in words or read back as it is shown, and what a rule does to a
//! stream does not depend on how the stream is cut.

use std::time::Duration;

use trust_cli::exit_code::ExitCode;
use trust_proxy::rules::{Direction, Rule, Rules, Who};
use trust_wire::LengthFormat;
use trust_wire::relay::{FiredFault, FrameFormat, Relay, RelaySide};

use crate::oneline::check_line;

/// Checks a line that shows a rule, which can be long.
fn check_rule(text: &str) {
    assert!(!text.trim().is_empty() && !text.chars().any(char::is_control), "{text:?}");
}

/// Input: a rule per line up to an empty line, then the bytes of a stream.
///
/// # Panics
///
/// If a rule is not read back, or a stream becomes another one for being cut.
pub fn run(data: &[u8]) {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (text, stream) = match end {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (data, &[][..]),
    };
    let mut rules = vec![];
    for line in String::from_utf8_lossy(text).lines() {
        match Rule::parse(line) {
            Ok(rule) => {
                let shown = rule.to_string();
                assert_eq!(Rule::parse(&shown).as_ref(), Ok(&rule), "{shown}");
                check_rule(&shown);
                rules.push(rule);
            }
            Err(error) => {
                let failure = error.failure(ExitCode::Usage, "--fault", line);
                check_line(&failure.message);
                failure.hint.iter().flat_map(|hint| hint.lines()).for_each(check_rule);
            }
        }
    }
    let rules = Rules::new(rules, 7);
    let formats = [
        FrameFormat::Length(LengthFormat::U32_BE),
        FrameFormat::Line,
        FrameFormat::Varint { offset: 1 },
        FrameFormat::Resp { is_request: true },
    ];
    for format in [None].into_iter().chain(formats.map(Some)) {
        let whole = outcome(&rules, format.clone(), stream.chunks(stream.len().max(1)));
        assert_eq!(outcome(&rules, format.clone(), stream.chunks(1)), whole);
        assert_eq!(outcome(&rules, format, stream.chunks(7)), whole);
    }
}

fn send_held(relay: &mut Relay, sent: &mut Vec<u8>) {
    let sendable = relay.sendable(RelaySide::Upstream);
    let count = sendable.len();
    sent.extend_from_slice(sendable);
    relay.handle_sent(RelaySide::Upstream, count);
}

/// What becomes of a stream that comes in these pieces as long as nothing keeps it back, and what
/// happens where.
fn outcome<'a>(
    rules: &Rules,
    format: Option<FrameFormat>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Vec<FiredFault>) {
    let mut relay = Relay::new(Duration::ZERO);
    relay.arm(
        RelaySide::Upstream,
        rules.faults(Who { connection: 1, address: None, pair: 0 }, Direction::Up),
        format,
    );
    let mut sent = vec![];
    send_held(&mut relay, &mut sent);
    for piece in pieces {
        let passed = relay.handle_received(RelaySide::Client, piece);
        sent.extend_from_slice(passed);
        relay.handle_forwarded(RelaySide::Upstream, passed, passed.len());
        send_held(&mut relay, &mut sent);
    }
    relay.handle_end_of_stream(RelaySide::Client);
    sent.extend(relay.held(RelaySide::Upstream).flatten());
    (sent, relay.take_fired(RelaySide::Upstream))
}
