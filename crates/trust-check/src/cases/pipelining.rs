//! Many messages at once, and answers that are slow to be read.

use std::time::{Duration, Instant};

use trust_cli::text::{grouped, seconds};

use crate::case::{Case, Isolation, Needs};
use crate::exchange::learned::LONG_ANSWER_MIN;
use crate::request::{self, Request, concat};
use crate::setup::LARGE_MAX;
use crate::trial::CaseTrial;
use crate::verdict::{Finding, Judged, Verdict};
use crate::wire::{Pace, Wire};

/// Where most of these requirements come from.
const STREAM: &str = "RFC 9293 section 3.1 (a stream of octets); recv(2)";

const fn case(
    id: &'static str,
    title: &'static str,
    requirement: &'static str,
    bug: &'static str,
    run: fn(&mut CaseTrial<'_>) -> Judged,
) -> Case {
    let (needs, isolation) = (Needs::Messages, Isolation::Beside);
    Case { id, title, requirement, source: STREAM, bug, needs, isolation, run }
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
        "a finished payload is taken for the end of the input, or a length of 0 for no message",
        |trial| together(trial, &[0, 0, 0, 0, 0, 12, 0, 0, 9]),
    ),
    case(
        "pipelining/5",
        "short and long messages in turn",
        ORDER,
        "messages are handed to several workers, and the first to finish answers first; or one of \
         these lengths is dropped or cut",
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
        "a large message followed by short ones",
        ORDER,
        "the rest of a large answer is sent when the kernel has room, and others go first",
        large_then_short,
    ),
    Case {
        id: "pipelining/8",
        title: "large answers to a client that reads slowly",
        requirement: "Every byte of an answer arrives, also when the kernel takes it little by \
                      little",
        source: "send(2); RFC 9293 section 3.8.6 (managing the window)",
        bug: "send(2) takes less than it was given, and the rest is forgotten",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: slow_reader,
    },
    Case {
        id: "pipelining/9",
        title: "a client that writes megabytes before it reads",
        requirement: "The server stops reading while its answers are not read, and goes on when \
                      they are",
        source: "RFC 9293 section 3.8.6 (managing the window)",
        bug: "answers pile up in memory without a bound, or are dropped, or the connection is \
              stuck",
        needs: Needs::Anything,
        isolation: Isolation::Alone,
        run: write_before_reading,
    },
    case(
        "pipelining/10",
        "messages that end exactly where a receive ends",
        EACH,
        "a receive that fills the buffer is taken as a sign that more is waiting",
        full_receives,
    ),
    case(
        "pipelining/11",
        "five thousand of the shortest messages in one send",
        EACH,
        "answers to one receive go out with one writev of more than IOV_MAX (1,024) parts, or have \
         a fixed number of places",
        thousands_in_a_send,
    ),
    case(
        "pipelining/12",
        "seventy thousand messages on one connection",
        "A connection serves for as long as its client wants, message after message",
        "a limit on the messages of a connection (1,000 by default in some libraries), or a \
         counter of 16 bits",
        seventy_thousand,
    ),
    case(
        "pipelining/13",
        "two thousand messages on one connection, each after the answer to the one before",
        "A connection serves for as long as its client wants, message after message",
        "a limit on the receives or events of a connection, or a counter of them that overflows",
        thousands_in_turn,
    ),
    case(
        "pipelining/14",
        "answers left unread, in growing amounts, and nothing sent after that",
        "Messages that were received are answered when the client reads again, whether more are \
         received or not",
        "the server stops when its output is full, and what it had received by then waits in its \
         input buffer for more to come",
        left_unread,
    ),
    case(
        "pipelining/15",
        "the same message again and again, in turn and in one segment",
        "A message is answered, whether it differs from the one before or not",
        "what came is compared with what came before, and a repetition is taken for nothing new",
        repeated,
    ),
];

/// Messages of one send, with steps before it that show how fast the server is.
const SENDS: [usize; 5] = [1, 10, 100, 1000, 5000];

/// Messages of one connection by the end of each exchange: round numbers, and more than 16 bits can
/// count.
const TOTALS: [usize; 9] = [1, 10, 100, 1000, 5000, 10_000, 25_000, 50_000, 70_000];

/// Payloads of these are of up to so many bytes.
const SHORT_MAX: u64 = 4;

/// Messages one after the other: more than 1,000, 1,024 and 2,000.
const IN_TURN: usize = 2100;

/// Bytes of each message whose answers are left unread: several of them in every receive.
const UNREAD_BYTES: u64 = 1000;

/// Bytes that are left unread grow by a part of this, so that some amount ends within the one
/// receive with which the output gets full. Receives are larger where outputs are.
const UNREAD_STEPS: [(usize, usize); 3] =
    [(256 * 1024, 3 * 1024), (1800 * 1024, 6 * 1024), (4 * 1024 * 1024, 48 * 1024)];

/// The same in a server that does not echo, whose messages on a connection are few.
const FEW_AMOUNTS: [u64; 3] = [64 * 1024, 512 * 1024, LARGE_MAX];

/// Messages of one connection there, unless the output of a server takes more.
const MESSAGES_OF_A_CONNECTION: usize = 900;

/// How long the server is given to fill its output.
const FILLING: Duration = Duration::from_millis(3);

/// Longest time for each of these cases.
const MANY_TIME_MAX: Duration = Duration::from_secs(3);

/// The same where amounts grow until a server stops.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Amounts in a row that a server did not take as a whole when it counts as one that has stopped,
/// and not as one that was slow to read.
const STOPS: u32 = 3;

/// Messages of the case with very many.
const MANY: usize = 1000;

/// Bytes that are sent to a client that reads slowly: more than two kernels hold.
const SLOW_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes that a client writes at most before it reads.
const AHEAD_BYTES: u64 = 16 * 1024 * 1024;

/// Messages with bytes of their own that those are made from, and their length in bytes where the
/// limit allows it.
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
fn together(trial: &mut CaseTrial<'_>, lengths: &[u64]) -> Judged {
    let messages: Vec<Request> = lengths.iter().map(|len| trial.message(*len)).collect();
    exchange(trial.connect()?, &messages, Duration::ZERO)
}

fn exchange(mut wire: Wire<'_>, messages: &[Request], slowness: Duration) -> Judged {
    let messages: Vec<&Request> = messages.iter().collect();
    wire.exchange(&messages, 0, slowness)?;
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

/// How often a message is repeated: often enough to come in one segment with itself, and alone.
const REPETITIONS: usize = 5;

fn repeated(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(32);
    let mut wire = trial.connect()?;
    for _ in 0..REPETITIONS {
        wire.send(&message.bytes)?;
        wire.expect_answers(&[&message])?;
    }
    wire.send(&message.bytes.repeat(REPETITIONS))?;
    wire.expect_answers(&[&message; REPETITIONS])?;
    Ok(Verdict::Pass)
}

fn one_and_a_half(trial: &mut CaseTrial<'_>) -> Judged {
    let [first, second] = [trial.message(20), trial.message(60)];
    let (whole, next) = (&first.bytes, &second.bytes);
    let (half, rest) = next.split_at(next.len() / 2);
    let mut wire = trial.connect()?;
    wire.send(&[whole, half].concat())?;
    let Err(missed) = wire.expect_answers(&[&first]) else {
        wire.send(rest)?;
        wire.expect_answers(&[&second])?;
        return Ok(Verdict::Pass);
    };
    // Few protocols say when an answer has to come: late is not lost.
    let may_be_late = match &missed {
        Verdict::Fail(Finding { seen: Some(seen), .. }) => seen.rest.is_empty() && !seen.is_over,
        _ => false,
    };
    if trial.setup.exchanges.is_some()
        && may_be_late
        && wire.send(rest).is_ok()
        && wire.expect_answers(&[&first, &second]).is_ok()
    {
        return Err(Verdict::warn(
            request::expectation(&[&first]),
            "it came only when the next message was whole",
        ));
    }
    Err(missed)
}

fn a_thousand(trial: &mut CaseTrial<'_>) -> Judged {
    let messages: Vec<Request> = (0..MANY).map(|_| trial.message(1000)).collect();
    exchange(trial.connect()?, &messages, Duration::ZERO)
}

fn large_then_short(trial: &mut CaseTrial<'_>) -> Judged {
    let is_echo = trial.setup.exchanges.is_none();
    let mut messages = match is_echo {
        true => vec![trial.message(LARGE_MAX)],
        false => trial.long_answers(LARGE_MAX, LARGE_MAX)?,
    };
    let next = (0..20).map(|_| trial.message(10));
    messages.extend(next.filter(|it| is_echo || it.answer_len() < LONG_ANSWER_MIN));
    exchange(trial.connect_to_fill()?, &messages, SLOWNESS)
}

fn slow_reader(trial: &mut CaseTrial<'_>) -> Judged {
    let messages = many_long(trial, SLOW_BYTES)?;
    exchange(trial.connect_to_fill()?, &messages, SLOWNESS)
}

fn write_before_reading(trial: &mut CaseTrial<'_>) -> Judged {
    let messages = many_long(trial, AHEAD_BYTES)?;
    let (all, messages) = (concat(&messages), messages.iter().collect::<Vec<_>>());
    let patience = trial.setup.timeout.map_or(STOPPED, |timeout| STOPPED.min(timeout / 4));
    // A client that reads nothing for as long as the timeout is ended, and rightly.
    let time = trial.setup.timeout.map_or(MANY_TIME_MAX, |timeout| timeout / 2);
    let mut wire = trial.connect_to_fill()?;
    let began = Instant::now();
    let sent = wire.try_send_for(&all, patience, time)?;
    if trial.setup.exchanges.is_some() {
        // It may have taken all requests, which are short, and is still to fill its output.
        trial.pause(patience)?;
    }
    let unread = began.elapsed();
    let is_late = |timeout: Duration, time: Duration| time >= timeout.mul_f64(0.75);
    if trial.setup.timeout.is_some_and(|timeout| is_late(timeout, unread)) {
        return Err(Verdict::inconclusive(format!(
            "this machine is too busy: nothing was read for {}, which is too near the timeout",
            seconds(unread)
        )));
    }
    wire.exchange(&messages, sent, Duration::ZERO).map_err(|verdict| {
        // A server that has lost what it owes is silent for all of its timeout before it closes.
        let (ended, silence) = (began.elapsed(), wire.silence());
        let may_be_its_timeout =
            |timeout: Duration| is_late(timeout, ended) && silence < timeout / 2;
        match trial.setup.timeout.is_some_and(may_be_its_timeout) && has_only_ended(&verdict) {
            true => Verdict::inconclusive(format!(
                "this machine is too busy: not all was read when the server closed the \
                 connection, {} after the first byte to it, which may be its timeout",
                seconds(ended)
            )),
            false => verdict,
        }
    })?;
    wire.expect_no_more()?;
    let taken = grouped(sent as u64);
    Ok(Verdict::Info(match sent == all.len() {
        true => format!("it took all {taken} bytes before an answer was read, and answered all"),
        false => format!(
            "it took {taken} of {} bytes before an answer was read, and answered all when they \
             were",
            grouped(all.len() as u64)
        ),
    }))
}

fn full_receives(trial: &mut CaseTrial<'_>) -> Judged {
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
        let messages = lengths.iter().map(|len| trial.message((len - overhead) as u64));
        let messages: Vec<Request> = messages.collect();
        exchange(trial.connect()?, &messages, Duration::ZERO)?;
    }
    Ok(Verdict::Pass)
}

fn thousands_in_a_send(trial: &mut CaseTrial<'_>) -> Judged {
    let mut pace = Pace::within(MANY_TIME_MAX, trial.setup);
    let mut wire = trial.connect()?;
    for count in SENDS {
        let messages: Vec<Request> = (0..count).map(|_| trial.message(0)).collect();
        let messages: Vec<&Request> = messages.iter().collect();
        wire.exchange_at(&messages, 0, &mut pace)?;
    }
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

fn seventy_thousand(trial: &mut CaseTrial<'_>) -> Judged {
    let mut pace = Pace::within(MANY_TIME_MAX, trial.setup);
    let mut wire = trial.connect()?;
    for total in TOTALS {
        let numbers = pace.answered()..total as u64;
        let messages = numbers.map(|number| trial.message(number % (SHORT_MAX + 1)));
        let messages: Vec<Request> = messages.collect();
        let messages: Vec<&Request> = messages.iter().collect();
        let exchanged = wire.exchange_at(&messages, 0, &mut pace);
        exchanged.map_err(|verdict| after_messages(pace.answered(), verdict))?;
    }
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

fn thousands_in_turn(trial: &mut CaseTrial<'_>) -> Judged {
    let mut pace = Pace::within(MANY_TIME_MAX, trial.setup);
    let mut wire = trial.connect()?;
    for _ in 0..IN_TURN {
        let message = trial.message(SHORT_MAX);
        let exchanged = wire.exchange_at(&[&message], 0, &mut pace);
        exchanged.map_err(|verdict| after_messages(pace.answered(), verdict))?;
    }
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

fn left_unread(trial: &mut CaseTrial<'_>) -> Judged {
    let mut pace = Pace::within(UNREAD_TIME_MAX, trial.setup);
    if trial.setup.exchanges.is_some() {
        return few_left_unread(trial, pace);
    }
    let message = trial.unread_message(UNREAD_BYTES)?;
    let mut wire = trial.connect_narrow()?;
    let frame = &message.bytes;
    let (mut unread, mut exchanged, mut stops) = (frame.len(), 0, 0);
    for (most, step) in UNREAD_STEPS {
        while unread < most {
            let count = unread.div_ceil(frame.len());
            pace.expect(count)?;
            // The number of messages per connection is for another case.
            exchanged += count;
            if exchanged > MESSAGES_OF_A_CONNECTION {
                (wire, exchanged) = (trial.connect_narrow()?, count);
            }
            // A server that is only slow to read has not stopped.
            let sent = wire.try_send(&frame.repeat(count), STOPPED)?;
            trial.pause(FILLING)?;
            wire.exchange_at(&vec![&message; count], sent, &mut pace)?;
            stops = if sent < count * frame.len() { stops + 1 } else { 0 };
            if stops == STOPS {
                // It takes no more while nothing is read.
                return Ok(Verdict::Pass);
            }
            unread += step;
        }
    }
    Ok(Verdict::Pass)
}

/// Requests are shorter than their answers: a server whose output is full has received all of them,
/// whatever the amount.
fn few_left_unread(trial: &mut CaseTrial<'_>, mut pace: Pace) -> Judged {
    for amount in FEW_AMOUNTS {
        let messages = trial.long_answers(UNREAD_BYTES, amount)?;
        let wanted: Vec<&Request> = messages.iter().collect();
        if pace.expect(wanted.len()).is_err() {
            // It is slow, and was right so far.
            break;
        }
        let mut wire = trial.connect_narrow()?;
        let sent = wire.try_send(&concat(&messages), STOPPED)?;
        trial.pause(trial.setup.settle)?;
        wire.exchange_at(&wanted, sent, &mut pace)?;
    }
    Ok(Verdict::Pass)
}

/// A failure after that many answered messages of the connection.
fn after_messages(answered: u64, verdict: Verdict) -> Verdict {
    let Verdict::Fail(finding) = &verdict else { return verdict };
    let (expected, answered) = (finding.expected.clone(), grouped(answered));
    verdict.retold(expected, |got| {
        format!("{answered} messages of this connection came back right before these; {got}")
    })
}

/// Whether all that is wrong is that the server ended the connection too early.
fn has_only_ended(verdict: &Verdict) -> bool {
    let Verdict::Fail(Finding { seen: Some(seen), .. }) = verdict else { return false };
    seen.is_over && (seen.is_cut || seen.rest.is_empty())
}

/// Long messages of about `bytes` bytes together: a few, each with other bytes, in turn.
fn many_long(trial: &mut CaseTrial<'_>, bytes: u64) -> Judged<Vec<Request>> {
    if trial.setup.exchanges.is_some() {
        return trial.long_answers(LONG_BYTES, bytes);
    }
    let different: Vec<Request> = (0..DIFFERENT).map(|_| trial.message(LONG_BYTES)).collect();
    let longest = different.iter().map(|message| message.bytes.len()).max().unwrap_or(0).max(1);
    let count = ((bytes / longest as u64) as usize).min(MESSAGES_MAX);
    Ok(different.iter().cycle().take(count).cloned().collect())
}
