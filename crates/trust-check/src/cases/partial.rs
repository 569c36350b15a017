//! Messages that arrive in pieces.

mod everywhere;

use std::ops::Range;
use std::time::{Duration, Instant};

use trust_cli::framing::Framing;
use trust_cli::text::seconds;

use super::cuts::cuts_at_most;
use crate::case::{Case, Isolation, Needs};
use crate::setup::Setup;
use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};
use crate::wire::Wire;

/// Where most of these requirements come from.
const STREAM: &str = "RFC 9293 section 3.1 (a stream of octets); recv(2)";

const fn case(
    id: &'static str,
    title: &'static str,
    bug: &'static str,
    needs: Needs,
    run: fn(&mut CaseTrial<'_>) -> Judged,
) -> Case {
    let requirement = "A message is the same however the network cuts it into pieces";
    Case { id, title, requirement, source: STREAM, bug, needs, isolation: Isolation::Beside, run }
}

/// The cases of this group.
pub const CASES: &[Case] = &[
    case(
        "partial/1",
        "a header that comes in two pieces, cut everywhere",
        "the header is read with one receive",
        Needs::Length,
        header_cut_everywhere,
    ),
    case(
        "partial/2",
        "a header, and then the payload",
        "the payload is expected with the same receive as the header",
        Needs::Length,
        header_then_payload,
    ),
    case(
        "partial/3",
        "a payload that comes in two pieces",
        "the payload is read with one receive",
        Needs::Messages,
        payload_cut,
    ),
    case(
        "partial/4",
        "a message one byte at a time",
        "what a receive brings is taken for a whole header, payload or line",
        Needs::Messages,
        byte_by_byte,
    ),
    case(
        "partial/5",
        "the end of one message with the beginning of the next",
        "what follows a message that was completed is dropped, or taken for part of it",
        Needs::Messages,
        tail_with_head,
    ),
    case(
        "partial/6",
        "messages cut in two, at every place",
        "one place of the cut is not thought of: between messages, in either header, in either \
         payload",
        Needs::Messages,
        two_cut_everywhere,
    ),
    case(
        "partial/7",
        "a whole message with half of the next header",
        "fewer bytes than a header, after a whole message, are dropped",
        Needs::Messages,
        whole_and_a_half,
    ),
    case(
        "partial/8",
        "a pause in the middle of a header",
        "a short timeout inside a header throws away what had come of it",
        Needs::Messages,
        pause_in_the_header,
    ),
    case(
        "partial/9",
        "half of the longest message, a pause, and the rest",
        "a short timeout inside a payload throws away what had come of it, or the rest has no room",
        Needs::Messages,
        pause_in_the_longest,
    ),
    Case {
        id: "partial/10",
        title: "nothing of an unfinished message is answered",
        requirement: "A message is answered when it is whole; before that it may never become \
                      whole",
        source: "docs/PROTOCOL.md",
        bug: "bytes are sent back as they come, so that a message that never ends is answered in \
              part",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: nothing_before_the_end,
    },
    case(
        "partial/11",
        "a line, and then its newline",
        "what a receive brings is taken for a line, whether a newline is there or not",
        Needs::Messages,
        line_then_newline,
    ),
    case(
        "partial/12",
        "one message in a thousand pieces",
        "a message may take so many receives and no more, or their number is counted in 8 bits",
        Needs::Messages,
        a_thousand_pieces,
    ),
];

/// Pieces of one message, which are a byte each, and how many of them have to go one by one.
const PIECES: u64 = 1200;
const PIECES_APART: usize = 1000;

/// Pieces without which it is not worth a try.
const PIECES_MIN: usize = 32;

/// A pause that is long for a network, and short for a person.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// Cuts of a message at most, spread over it, where it cannot be cut everywhere: each takes a
/// settle time. The same of a quick run.
const CUTS_MAX: usize = 32;
const CUTS_MAX_QUICK: usize = 12;

/// Bytes at the end of a message that come one by one, and in a quick run: so few that all come
/// within half a second, which is as long as some servers wait for a message.
const LAST_BYTES: usize = 16;
const LAST_BYTES_QUICK: usize = 8;

/// How long nothing may come of an unfinished message: long for a server that answers at once.
const NOTHING_YET: Duration = Duration::from_millis(200);

fn header_cut_everywhere(trial: &mut CaseTrial<'_>) -> Judged {
    let header_len = trial.setup.framing.overhead();
    if header_len < 2 {
        return Ok(Verdict::skipped("a header of one byte comes in one piece"));
    }
    let mut wire = trial.connect()?;
    for cut in cuts(trial.setup, 1..header_len) {
        let message = trial.message(24);
        let frame = &message.bytes;
        let (before, after) = frame.split_at(cut);
        wire.send_apart([before, after])?;
        wire.expect_answers(&[&message])?;
    }
    Ok(Verdict::Pass)
}

fn header_then_payload(trial: &mut CaseTrial<'_>) -> Judged {
    trial.length_format()?;
    let mut wire = trial.connect()?;
    for len in [1, 24, 1000] {
        let message = trial.message(len);
        let frame = &message.bytes;
        let (header, body) = frame.split_at(frame.len() - message.payload().len());
        wire.send_apart([header, body])?;
        wire.expect_answers(&[&message])?;
    }
    Ok(Verdict::Pass)
}

fn payload_cut(trial: &mut CaseTrial<'_>) -> Judged {
    let mut wire = trial.connect()?;
    for len in quick_half(trial.setup, [40, 3000]) {
        let message = trial.message(len);
        let frame = &message.bytes;
        let begin = trial.setup.framing.header_len();
        for cut in [1, 7, message.payload().len() / 2, message.payload().len().saturating_sub(1)] {
            let (before, after) = frame.split_at(begin + cut.min(message.payload().len()));
            wire.send_apart([before, after])?;
            wire.expect_answers(&[&message])?;
        }
    }
    Ok(Verdict::Pass)
}

fn byte_by_byte(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(8);
    let frame = &message.bytes;
    // Of a long header the last bytes, in which its length field is.
    let last = if trial.setup.is_quick { LAST_BYTES_QUICK } else { LAST_BYTES };
    let together = frame.len().saturating_sub(last);
    let (before, bytes) = frame.split_at(together);
    let mut wire = trial.connect()?;
    wire.send_apart([before].into_iter().chain(bytes.chunks(1)))?;
    wire.expect_answers(&[&message])?;
    Ok(Verdict::Pass)
}

fn tail_with_head(trial: &mut CaseTrial<'_>) -> Judged {
    let mut wire = trial.connect()?;
    for head in quick_half(trial.setup, [2, 5, 1, 12]) {
        let [first, second] = [trial.message(20), trial.message(30)];
        let (a, b) = (&first.bytes, &second.bytes);
        let (a_begin, a_end) = a.split_at(a.len() - 3.min(a.len()));
        let (b_begin, b_end) = b.split_at(head.min(b.len()));
        wire.send_apart([a_begin, &[a_end, b_begin].concat(), b_end])?;
        wire.expect_answers(&[&first, &second])?;
    }
    Ok(Verdict::Pass)
}

fn two_cut_everywhere(trial: &mut CaseTrial<'_>) -> Judged {
    if trial.setup.exchanges.is_some() {
        return everywhere::request_cut(trial);
    }
    let mut wire = trial.connect()?;
    let [first, second] = [trial.message(5), trial.message(6)];
    let both = [&first.bytes[..], &second.bytes].concat();
    for cut in cuts(trial.setup, 1..both.len()) {
        let (before, after) = both.split_at(cut);
        wire.send_apart([before, after])?;
        wire.expect_answers(&[&first, &second])?;
    }
    Ok(Verdict::Pass)
}

fn whole_and_a_half(trial: &mut CaseTrial<'_>) -> Judged {
    let [first, second] = [trial.message(20), trial.message(30)];
    let (whole, next) = (&first.bytes, &second.bytes);
    let half = trial.setup.framing.header_len() / 2;
    if matches!(trial.setup.framing, Framing::Length(_)) && half == 0 {
        return Ok(Verdict::skipped("a header of one byte has no half"));
    }
    let (begin, rest) = next.split_at(half.max(1));
    let mut wire = trial.connect()?;
    wire.send_apart([&[whole, begin].concat()[..], rest])?;
    wire.expect_answers(&[&first, &second])?;
    Ok(Verdict::Pass)
}

fn pause_in_the_header(trial: &mut CaseTrial<'_>) -> Judged {
    let half = trial.setup.framing.header_len() / 2;
    if matches!(trial.setup.framing, Framing::Length(_)) && half == 0 {
        return Ok(Verdict::skipped("a header of one byte comes in one piece"));
    }
    pause_after(trial, 40, |_| half.max(1))
}

fn pause_in_the_longest(trial: &mut CaseTrial<'_>) -> Judged {
    pause_after(trial, u64::MAX, |frame_len| frame_len / 2)
}

/// A message of about that length, with a long pause after so many of its bytes.
fn pause_after(trial: &mut CaseTrial<'_>, len: u64, cut: impl Fn(usize) -> usize) -> Judged {
    let message = trial.message(len);
    let frame = &message.bytes;
    if frame.len() < 2 {
        return Ok(Verdict::skipped("a message of one byte comes in one piece"));
    }
    let cut = cut(frame.len()).clamp(1, frame.len() - 1);
    let mut wire = trial.connect()?;
    wire.send(&frame[..cut])?;
    trial.pause(long_pause(trial.setup))?;
    wire.note("a long pause");
    may_have_timed_out(trial, &mut wire)?;
    wire.exchange(&[&message], cut, Duration::ZERO)?;
    Ok(Verdict::Pass)
}

fn nothing_before_the_end(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(200);
    let frame = &message.bytes;
    let (begin, rest) =
        frame.split_at(trial.setup.framing.header_len() + message.payload().len() / 2);
    if rest.is_empty() {
        return Ok(Verdict::skipped("a message is too short to have a half here"));
    }
    let mut wire = trial.connect()?;
    wire.send(begin)?;
    let mut early = vec![];
    let patience = NOTHING_YET.min(long_pause(trial.setup));
    while early.len() < frame.len() && wire.receive_into(&mut early, frame.len(), patience)? {}
    if early.is_empty() {
        may_have_timed_out(trial, &mut wire)?;
        wire.send(rest)?;
        wire.expect_answers(&[&message])?;
        return Ok(Verdict::Pass);
    }
    // A client too many is turned away whatever it sends.
    wire.expect_no_goodbye(&early, &message)?;
    Err(Verdict::warn(
        "nothing comes back before a message is whole",
        format!(
            "{} bytes came after {} of {} bytes of a message were sent",
            early.len(),
            begin.len(),
            frame.len()
        ),
    ))
}

fn line_then_newline(trial: &mut CaseTrial<'_>) -> Judged {
    if trial.setup.framing != Framing::Line {
        return Ok(Verdict::skipped("this framing has no newlines"));
    }
    let mut wire = trial.connect()?;
    for len in [1, 40, 1000] {
        let message = trial.message(len);
        let frame = &message.bytes;
        let (text, newline) = frame.split_at(message.payload().len());
        wire.send_apart([text, newline])?;
        wire.expect_answers(&[&message])?;
    }
    Ok(Verdict::Pass)
}

fn a_thousand_pieces(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(PIECES);
    let frame = &message.bytes;
    if frame.len() < PIECES_MIN {
        return Ok(Verdict::skipped("messages are too short here for many pieces"));
    }
    let mut wire = trial.connect()?;
    // A server may limit the time of a message.
    let (began, longest) = (Instant::now(), long_pause(trial.setup));
    let pause = longest.div_f64(1.5 * frame.len() as f64);
    let mut apart = 0;
    for (done, byte) in frame.iter().enumerate() {
        if began.elapsed() >= longest {
            break;
        }
        if wire.try_send(&[*byte], trial.setup.patience)? == 0 {
            may_have_timed_out(trial, &mut wire)?;
            // One that answers early, and that correctly, need not read the rest.
            if wire.expect_answers(&[&message]).is_ok() {
                return Ok(Verdict::Pass);
            }
            return Err(Verdict::fail_by(
                wire.evidence(),
                "a message is received in as many pieces as the network makes of it",
                format!("the server ended the connection after {done} pieces of a byte each"),
            ));
        }
        apart = done + 1;
        trial.pause(pause)?;
    }
    wire.exchange(&[&message], apart, Duration::ZERO)?;
    match apart >= PIECES_APART.min(frame.len()) {
        true => Ok(Verdict::Pass),
        false => Err(Verdict::inconclusive(format!(
            "this machine is too busy: {apart} pieces were sent in {}",
            seconds(longest)
        ))),
    }
}

/// A server whose timeout is not known may have ended the connection in a pause: it may be short,
/// and shorter while there are many clients.
///
/// # Errors
///
/// What was measured, if that is what an echo server would not do.
fn may_have_timed_out(trial: &CaseTrial<'_>, wire: &mut Wire<'_>) -> Judged<()> {
    let mut got = vec![];
    wire.receive_into(&mut got, 1, Duration::ZERO)?;
    let is_known = trial.setup.exchanges.is_none() || trial.setup.timeout.is_some();
    match wire.end().is_some() && got.is_empty() && !is_known {
        true => Err(Verdict::Info(format!(
            "the server ended the connection {} after it began, inside a message",
            seconds(wire.age())
        ))),
        false => {
            wire.keep(got);
            Ok(())
        }
    }
}

/// As long as the server's timeout allows.
fn long_pause(setup: &Setup) -> Duration {
    setup.timeout.map_or(LONG_PAUSE, |timeout| LONG_PAUSE.min(timeout / 3))
}

/// The second half of these in a quick run.
fn quick_half<const COUNT: usize, T>(setup: &Setup, all: [T; COUNT]) -> impl Iterator<Item = T> {
    all.into_iter().skip(if setup.is_quick { COUNT / 2 } else { 0 })
}

/// Every place, or as many of them as there is time for, with the first and the last.
fn cuts(setup: &Setup, places: Range<usize>) -> impl Iterator<Item = usize> + use<> {
    cuts_at_most(if setup.is_quick { CUTS_MAX_QUICK } else { CUTS_MAX }, places)
}
