//! Many messages at once, and answers that are slow to be read.

use std::time::Duration;

use crate::check::case::{Case, Manners, Needs};
use crate::check::setup::LARGE_MAX;
use crate::check::trial::Trial;
use crate::check::verdict::{Judged, Verdict};
use crate::text::grouped;

/// Where most of these requirements come from.
const STREAM: &str = "RFC 9293 section 3.1 (a stream of octets); recv(2)";

const fn case(
    id: &'static str,
    title: &'static str,
    requirement: &'static str,
    bug: &'static str,
    run: fn(&mut Trial<'_>) -> Judged,
) -> Case {
    let (needs, manners) = (Needs::Messages, Manners::Beside);
    Case { id, title, requirement, source: STREAM, bug, needs, manners, run }
}

const EACH: &str = "Every message is answered, however many of them a receive brings";
const ORDER: &str = "Answers come in the order of the messages";

/// The cases of this group.
pub const CASES: &[Case] = &[
    case(
        "pipelining/1",
        "two messages in one segment",
        EACH,
        "a receive is taken for one message: the second one is dropped, or waits for more bytes",
        |trial| together(trial, &[20, 30]),
    ),
    case(
        "pipelining/2",
        "a hundred messages in one segment",
        EACH,
        "some messages of a receive are handled, and the others forgotten",
        |trial| together(trial, &[8; 100]),
    ),
    case(
        "pipelining/3",
        "one message and a half in one segment",
        EACH,
        "the whole message is answered only when the next one is whole too, or the half is dropped",
        one_and_a_half,
    ),
    case(
        "pipelining/4",
        "empty messages in a row",
        "An empty message is answered like any other",
        "nothing left of a payload is taken for nothing left of the input",
        |trial| together(trial, &[0, 0, 0, 0, 0, 12, 0, 0, 9]),
    ),
    case(
        "pipelining/5",
        "short and long messages in turn",
        ORDER,
        "messages are handed to several workers, and whoever is done first answers first",
        |trial| together(trial, &[900, 3, 12_000, 1, 0, 5000, 40, 20_000, 7, 2]),
    ),
    case(
        "pipelining/6",
        "a thousand messages, answers read all the while",
        EACH,
        "the answers have a buffer of a fixed size, and what does not fit is lost",
        a_thousand,
    ),
    case(
        "pipelining/7",
        "a large message and short ones behind it",
        ORDER,
        "the rest of a large answer is sent when the kernel has room, and others go first",
        large_then_short,
    ),
    Case {
        id: "pipelining/8",
        title: "large answers to a client that reads slowly",
        requirement: "Every byte of an answer arrives, also when the kernel takes it little by little",
        source: "send(2); RFC 9293 section 3.8.6 (managing the window)",
        bug: "send(2) takes less than it was given, and the rest is forgotten",
        needs: Needs::Anything,
        manners: Manners::Beside,
        run: slow_reader,
    },
    Case {
        id: "pipelining/9",
        title: "a client that writes megabytes before it reads",
        requirement: "The server stops reading while its answers are not read, and goes on when they are",
        source: "RFC 9293 section 3.8.6 (managing the window)",
        bug: "answers pile up in memory without a bound, or are dropped, or the connection is stuck",
        needs: Needs::Anything,
        manners: Manners::Alone,
        run: write_before_reading,
    },
    case(
        "pipelining/10",
        "messages that end exactly where a receive ends",
        EACH,
        "a receive that fills the buffer is taken for one that has more behind it",
        full_receives,
    ),
];

/// Messages of the case with very many.
const MANY: usize = 1000;

/// Bytes that are sent to a client that reads slowly: more than two kernels hold.
const SLOW_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes that a client writes at most before it reads.
const AHEAD_BYTES: u64 = 16 * 1024 * 1024;

/// Messages with bytes of their own that those are made from, and their length in bytes where the limit allows it.
const DIFFERENT: usize = 7;
const LONG_BYTES: u64 = 64 * 1024;

/// Messages of a case at most, where the limit makes them short.
const MESSAGES_MAX: usize = 50_000;

/// How long a server has taken nothing when it counts as one that has stopped reading.
const STOPPED: Duration = Duration::from_millis(200);

/// What a slow client waits before each receive.
const SLOWNESS: Duration = Duration::from_millis(2);

/// Sizes of common receive buffers.
const RECEIVES: [usize; 6] = [512, 1024, 4096, 8192, 16_384, 65_536];

/// Messages of these lengths with one send.
fn together(trial: &mut Trial<'_>, lengths: &[u64]) -> Judged {
    let payloads: Vec<Vec<u8>> = lengths.iter().map(|len| trial.payload(*len)).collect();
    exchange(trial, &payloads, Duration::ZERO)
}

fn exchange(trial: &mut Trial<'_>, payloads: &[Vec<u8>], slowness: Duration) -> Judged {
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let mut wire = trial.connect()?;
    wire.exchange(&payloads, 0, slowness)?;
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

fn one_and_a_half(trial: &mut Trial<'_>) -> Judged {
    let [first, second] = [trial.payload(20), trial.payload(60)];
    let (whole, next) = (trial.frame(&first), trial.frame(&second));
    let (half, rest) = next.split_at(next.len() / 2);
    let mut wire = trial.connect()?;
    wire.send(&[&whole, half].concat())?;
    wire.expect_echo(&[&first])?;
    wire.send(rest)?;
    wire.expect_echo(&[&second])?;
    Ok(Verdict::Pass)
}

fn a_thousand(trial: &mut Trial<'_>) -> Judged {
    let payloads: Vec<Vec<u8>> = (0..MANY).map(|_| trial.payload(1000)).collect();
    exchange(trial, &payloads, Duration::ZERO)
}

fn large_then_short(trial: &mut Trial<'_>) -> Judged {
    let large = trial.payload(LARGE_MAX);
    let short = (0..20).map(|_| trial.payload(10));
    let payloads: Vec<Vec<u8>> = [large].into_iter().chain(short).collect();
    exchange(trial, &payloads, SLOWNESS)
}

fn slow_reader(trial: &mut Trial<'_>) -> Judged {
    let different = longest_ones(trial);
    let payloads = in_turn(&different, SLOW_BYTES);
    let mut wire = trial.connect()?;
    wire.exchange(&payloads, 0, SLOWNESS)?;
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

fn write_before_reading(trial: &mut Trial<'_>) -> Judged {
    let different = longest_ones(trial);
    let payloads = in_turn(&different, AHEAD_BYTES);
    let all: Vec<Vec<u8>> = payloads.iter().map(|payload| trial.frame(payload)).collect();
    let all = all.concat();
    let patience = trial.setup.timeout.map_or(STOPPED, |timeout| STOPPED.min(timeout / 4));
    let mut wire = trial.connect()?;
    let sent = wire.try_send(&all, patience)?;
    wire.exchange(&payloads, sent, Duration::ZERO)?;
    wire.expect_no_more()?;
    let taken = grouped(sent as u64);
    Ok(Verdict::Info(match sent == all.len() {
        true => format!("it took all {taken} bytes before an answer was read, and answered all"),
        false => format!(
            "it took {taken} of {} bytes before an answer was read, and answered all when they were",
            grouped(all.len() as u64)
        ),
    }))
}

fn full_receives(trial: &mut Trial<'_>) -> Judged {
    let overhead = trial.setup.framing.overhead();
    let min = overhead + trial.setup.payload_min() as usize;
    for size in RECEIVES {
        // As few messages as there can be, of about the same length.
        let longest = trial.setup.payload_len(u64::MAX) + overhead;
        let count = size.div_ceil(longest);
        let lengths = (0..count).map(|index| size * (index + 1) / count - size * index / count);
        let lengths: Vec<usize> = lengths.collect();
        if lengths.iter().any(|len| *len < min) {
            continue;
        }
        let payloads = lengths.iter().map(|len| trial.payload((len - overhead) as u64));
        let payloads: Vec<Vec<u8>> = payloads.collect();
        exchange(trial, &payloads, Duration::ZERO)?;
    }
    Ok(Verdict::Pass)
}

/// A few long messages, each with other bytes.
fn longest_ones(trial: &mut Trial<'_>) -> Vec<Vec<u8>> {
    (0..DIFFERENT).map(|_| trial.payload(LONG_BYTES)).collect()
}

/// These again and again, until they are about so many bytes.
fn in_turn(payloads: &[Vec<u8>], bytes: u64) -> Vec<&[u8]> {
    let longest = payloads.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let count = ((bytes / longest as u64) as usize).min(MESSAGES_MAX);
    payloads.iter().cycle().take(count).map(Vec::as_slice).collect()
}
