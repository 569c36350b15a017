//! How long the server waits, and for how long it lets clients wait. Judged only against the
//! timeout that the user says the server has.

use std::time::{Duration, Instant};

use trust_cli::text::{grouped, seconds};

use crate::case::{Case, Isolation, Needs};
use crate::exchange::learned::Learned;
use crate::request::{Answers, Request, concat};
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Judged, Verdict};
use crate::wire::{ConnectionEnd, STALL, Wire};

/// Longest measurement without a timeout to judge by. The same of a server of one client at a time,
/// where each case waits for the one before.
const MEASURED_MAX: Duration = Duration::from_secs(3);
const MEASURED_IN_TURN_MAX: Duration = Duration::from_secs(1);

/// What a busy server may be late with, beside half of its timeout.
const LATE: Duration = Duration::from_secs(1);

/// Time between two bytes or messages of a client that is never silent for long, without a timeout
/// to go by, and where cases wait for each other.
const STEADY_PAUSE: Duration = Duration::from_millis(500);
const STEADY_PAUSE_IN_TURN: Duration = Duration::from_millis(200);

/// Pairs of messages whose answers are timed.
const TIMED_PAIRS: usize = 15;

/// A kernel that has nothing to send acknowledges after 40 ms at the earliest (`tcp(7)`,
/// TCP_QUICKACK; 200 ms elsewhere): an answer that comes later than this waited for that.
const DELAYED_ACK: Duration = Duration::from_millis(30);

/// Longest time in which answers that were left unread are read after all.
const DRAIN: Duration = Duration::from_secs(3);

/// Below this a server takes seconds for the messages that fill the buffers of two kernels, so that
/// it cannot be told whether it waits.
const UNREAD_MESSAGE_MIN: usize = 64;

/// Bytes of a message that is sent again and again without reading.
const UNREAD_MESSAGE_BYTES: u64 = 16 * 1024;

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "timing/1",
        title: "an idle client is ended by the timeout",
        requirement: "Silence ends the connection when it reaches the timeout, and not before",
        source: "docs/PROTOCOL.md (recv_timeout)",
        bug: "there is no timeout, or it is of another unit",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: idle_after_an_echo,
    },
    Case {
        id: "timing/2",
        title: "a client that stops inside the header is ended by the timeout",
        requirement: "Silence counts wherever it is, inside a header too",
        source: "docs/PROTOCOL.md (recv_timeout)",
        bug: "the timeout is only looked at between messages",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let part = trial.cut_header()?;
            silent_after(trial, &part, "a client that stopped inside a header")
        },
    },
    Case {
        id: "timing/3",
        title: "a client that stops inside the payload is ended by the timeout",
        requirement: "Silence counts wherever it is, inside a payload too",
        source: "docs/PROTOCOL.md (recv_timeout)",
        bug: "the timeout is given to the read of the header alone",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let part = trial.cut_payload(1000)?;
            silent_after(trial, &part, "a client that stopped inside a payload")
        },
    },
    Case {
        id: "timing/4",
        title: "a slow but steady client inside a message",
        requirement: "A message that arrives slowly is answered like any other, unless the server \
                      limits its time",
        source: "docs/PROTOCOL.md (frame_timeout)",
        bug: "what had arrived of a message is forgotten when a receive times out",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: slow_and_steady,
    },
    Case {
        id: "timing/5",
        title: "an active client is not ended by the idle timeout",
        requirement: "Every message begins the timeout anew",
        source: "docs/PROTOCOL.md (recv_timeout)",
        bug: "the timeout counts from the beginning of the connection",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: active,
    },
    Case {
        id: "timing/6",
        title: "a small answer does not wait for an acknowledgement",
        requirement: "Answers go out at once, also while an earlier one is unacknowledged",
        source: "RFC 1122, 4.2.3.4; tcp(7) (TCP_NODELAY)",
        bug: "Nagle's algorithm is on: the second small answer waits for the client's delayed \
              acknowledgement",
        needs: Needs::Anything,
        isolation: Isolation::Alone,
        run: delayed_acknowledgement,
    },
    Case {
        id: "timing/7",
        title: "the timeout ends an idle client with a FIN",
        requirement: "Nothing is unread and nothing is owed, so there is no reason for a RST",
        source: "RFC 9293, 3.6; docs/PROTOCOL.md (recv_timeout)",
        bug: "the timeout never ends it, or an abort is taken for a close",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: idle_is_ended_by_fin,
    },
    Case {
        id: "timing/8",
        title: "a client that does not read its answers is ended by the timeout",
        requirement: "Answers that are not taken within the timeout end the connection",
        source: "docs/PROTOCOL.md (send_timeout)",
        bug: "the timeout is for receiving alone, and a client that does not read holds its place \
              for ever",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: not_reading,
    },
    Case {
        id: "timing/9",
        title: "a client that never sends a byte is ended by the timeout",
        requirement: "The timeout begins with the connection, not with its first byte",
        source: "docs/PROTOCOL.md (recv_timeout)",
        bug: "the timeout is only set after the first receive",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: |trial| silent_after(trial, &[], "a client that never sent a byte"),
    },
    Case {
        id: "timing/10",
        title: "clients that come after others have left are not ended in their place",
        requirement: "A timer ends with its connection, whichever way that ends",
        source: "docs/PROTOCOL.md (recv_timeout); open(2) (the lowest free descriptor)",
        bug: "a way out of the connection's code that leaves its timer running: it ends the next \
              client on the same descriptor",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: active_after_others,
    },
    Case {
        id: "timing/11",
        title: "clients that are silent at the same time are all ended by the timeout",
        requirement: "Every connection has a timeout of its own",
        source: "docs/PROTOCOL.md (recv_timeout)",
        bug: "one timer for all connections, or a look for silent clients that finds one of them \
              each time",
        needs: Needs::Anything,
        isolation: Isolation::Several,
        run: many_are_silent,
    },
];

/// Clients that are silent at the same time.
const SILENT: usize = 10;

/// Clients that leave, each in another way, and others that come in their places.
const SUCCESSORS: usize = 4;

/// Longest wait for something that the server's timeout decides.
fn longest(trial: &CaseTrial<'_>) -> Duration {
    trial.setup.timeout.map_or(measured_max(trial), latest)
}

/// Longest measurement without a timeout.
fn measured_max(trial: &CaseTrial<'_>) -> Duration {
    if trial.setup.one_at_a_time { MEASURED_IN_TURN_MAX } else { MEASURED_MAX }
}

/// When the timeout has ended a silent connection also on a busy server.
fn latest(timeout: Duration) -> Duration {
    timeout.mul_f64(1.5) + LATE
}

/// Whether an end after that time may be the timeout's.
pub fn is_in_time(took: Duration, timeout: Duration) -> bool {
    (timeout.mul_f64(0.9)..=latest(timeout)).contains(&took)
}

/// Waits for the server to end a silent connection, and judges when it did if there is a timeout to
/// judge by.
fn judge_silence(trial: &CaseTrial<'_>, wire: &mut Wire<'_>, since: Instant, who: &str) -> Judged {
    let longest = longest(trial);
    let mut got = vec![];
    wire.receive_into(&mut got, 64, longest.saturating_sub(since.elapsed()))?;
    let took = since.elapsed();
    let expected = match trial.setup.timeout {
        Some(timeout) => format!("{who} is ended after {}", seconds(timeout)),
        None => format!("{who} is sent nothing"),
    };
    if !got.is_empty() {
        let got = format!("{} bytes came", got.len());
        return Err(Verdict::fail_by(Evidence::Bytes, expected, got));
    }
    match (wire.end(), trial.setup.timeout) {
        (None, Some(_)) => {
            Err(Verdict::fail(expected, format!("it was still open after {}", seconds(took))))
        }
        (Some(_), Some(timeout)) if took < timeout.mul_f64(0.9) => {
            let got = format!("it was ended after {}", seconds(took));
            Err(Verdict::fail_by(wire.evidence(), expected, got))
        }
        (Some(_), Some(_)) => Ok(Verdict::Pass),
        (None, None) => Ok(Verdict::Info(format!("not ended within {}", seconds(longest)))),
        (Some(end), None) => {
            let how = if end == ConnectionEnd::Reset { "RST" } else { "FIN" };
            Ok(Verdict::Info(format!("ended after {} with a {how}", seconds(took))))
        }
    }
}

/// A connection on which one message was echoed, and when that began.
fn idle_wire<'s>(trial: &mut CaseTrial<'s>) -> Judged<(Wire<'s>, Instant)> {
    let message = trial.message(32);
    let mut wire = trial.connect()?;
    let since = Instant::now();
    wire.send(&message.bytes)?;
    wire.expect_answers(&[&message])?;
    Ok((wire, since))
}

fn idle_after_an_echo(trial: &mut CaseTrial<'_>) -> Judged {
    let (mut wire, since) = idle_wire(trial)?;
    judge_silence(trial, &mut wire, since, "an idle client")
}

/// The client sends a part of a message and is silent.
///
/// With a full accept queue the server's kernel drops the last segment of the handshake, so the
/// server learns of the client a second or more after it connected, and only then can its timeout
/// begin.
fn silent_after(trial: &mut CaseTrial<'_>, part: &[u8], who: &str) -> Judged {
    if trial.setup.exchanges.as_ref().is_some_and(Learned::has_greeting) {
        return Ok(Verdict::skipped("the server speaks first"));
    }
    let rate = &trial.setup.rate;
    let (since, slow_before) = (Instant::now(), rate.slow_connects());
    let mut wire = trial.connect()?;
    wire.send(part)?;
    let verdict = judge_silence(trial, &mut wire, since, who);
    if verdict.is_err() && wire.end().is_none() && rate.slow_connects() > slow_before {
        return Err(Verdict::inconclusive(
            "the accept queue was full meanwhile, so the server may not have known of the client \
             yet",
        ));
    }
    verdict
}

fn idle_is_ended_by_fin(trial: &mut CaseTrial<'_>) -> Judged {
    let (mut wire, since) = idle_wire(trial)?;
    let verdict = judge_silence(trial, &mut wire, since, "an idle client")?;
    if verdict == Verdict::Pass && wire.end() == Some(ConnectionEnd::Reset) {
        wire.judge_reset("the timeout ends an idle client with a FIN")?;
    }
    Ok(verdict)
}

/// A quarter of the timeout.
fn steady_pause(trial: &CaseTrial<'_>) -> Duration {
    let usual = if trial.setup.one_at_a_time { STEADY_PAUSE_IN_TURN } else { STEADY_PAUSE };
    trial.setup.timeout.map_or(usual, |timeout| timeout / 4)
}

/// Whether our own pause became so long that a right server may have ended the connection.
fn overslept(trial: &CaseTrial<'_>, paused: Duration) -> Judged<()> {
    match trial.setup.timeout {
        Some(timeout) if paused > timeout.mul_f64(0.75) => Err(Verdict::inconclusive(format!(
            "this machine is too busy: a pause of {} became {}",
            seconds(timeout / 4),
            seconds(paused)
        ))),
        _ => Ok(()),
    }
}

fn slow_and_steady(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(1000);
    let frame = &message.bytes;
    let mut wire = trial.connect()?;
    let since = Instant::now();
    let mut sent = 0;
    let pause = steady_pause(trial);
    while sent + 1 < frame.len() && since.elapsed() + pause < longest(trial) {
        let paused = Instant::now();
        sent += wire.try_send(&frame[sent..=sent], trial.setup.patience)?;
        let mut got = vec![];
        wire.receive_into(&mut got, 64, pause)?;
        if !got.is_empty() {
            return Err(Verdict::fail_by(
                Evidence::Bytes,
                "a message is answered when it is whole",
                format!("{} bytes came after {sent} of its {} bytes", got.len(), frame.len()),
            ));
        }
        overslept(trial, paused.elapsed())?;
        if wire.end().is_some() {
            let took = seconds(since.elapsed());
            return Ok(Verdict::Info(format!(
                "ended after {took}: a message has a time limit of its own"
            )));
        }
    }
    let took = seconds(since.elapsed());
    wire.send(&frame[sent..])?;
    wire.expect_answers(&[&message])?;
    Ok(Verdict::Info(format!("answered although it took {took}")))
}

fn active(trial: &mut CaseTrial<'_>) -> Judged {
    let wire = trial.connect()?;
    stay_active(trial, &mut [wire])
}

/// These clients send a message now and then, for longer than the timeout.
fn stay_active(trial: &mut CaseTrial<'_>, wires: &mut [Wire<'_>]) -> Judged {
    let since = Instant::now();
    let pause = steady_pause(trial);
    let expected = "a client that sends a message now and then is not ended";
    while since.elapsed() + pause < longest(trial) {
        let paused = Instant::now();
        let message = trial.message(32);
        let took = seconds(since.elapsed());
        let frame = &message.bytes;
        let served = wires
            .iter_mut()
            .try_for_each(|wire| wire.send(frame))
            .and_then(|()| wires.iter_mut().try_for_each(|wire| wire.expect_answers(&[&message])));
        served.map_err(|verdict| {
            verdict.retold(expected, |got| format!("{got}, {took} after the beginning"))
        })?;
        if trial.setup.timeout.is_some_and(|timeout| paused.elapsed() > timeout / 2) {
            let (count, took) = (wires.len(), seconds(paused.elapsed()));
            return Err(Verdict::inconclusive(format!("too slow: {count} messages took {took}")));
        }
        // The first of them for as long as the pause, and the others for as long as is left.
        for wire in &mut *wires {
            let left = pause.saturating_sub(paused.elapsed());
            wire.receive_into(&mut vec![], 64, left)?;
        }
        overslept(trial, paused.elapsed())?;
        if wires.iter().any(|wire| wire.end().is_some()) {
            let (took, left_alone) = (seconds(since.elapsed()), seconds(paused.elapsed()));
            let got = format!("the server ended it after {took}, {left_alone} after a message");
            return match trial.setup.timeout {
                Some(_) => Err(Verdict::fail(expected, got)),
                // It may have a timeout that is shorter than the pause.
                None => Ok(Verdict::Info(got)),
            };
        }
    }
    match trial.setup.timeout {
        Some(_) => Ok(Verdict::Pass),
        None => Ok(Verdict::Info(format!("not ended within {}", seconds(since.elapsed())))),
    }
}

/// Clients leave in all ways, and as many come at once, which send a message now and then for
/// longer than the timeout.
fn active_after_others(trial: &mut CaseTrial<'_>) -> Judged {
    let count = if trial.setup.one_at_a_time { 1 } else { SUCCESSORS };
    let message = trial.message(32);
    let frame = &message.bytes;
    let part = trial.cut_payload(1000).unwrap_or_default();
    let mut leaving = vec![];
    let mut slowest = Duration::ZERO;
    while leaving.len() < count.min(served_in_a_pause(trial, slowest)) {
        let mut wire = trial.connect()?;
        let since = Instant::now();
        wire.send(frame)?;
        wire.expect_answers(&[&message])?;
        slowest = slowest.max(since.elapsed());
        leaving.push(wire);
    }
    let count = leaving.len();
    for (number, mut wire) in leaving.into_iter().enumerate() {
        match number {
            0 => wire.close(),
            1 => wire.reset(),
            2 => {
                wire.try_send(&part, trial.setup.settle)?;
                trial.pause(trial.setup.settle)?;
                wire.reset();
            }
            _ => {
                let refused = trial.refused().unwrap_or_default();
                wire.try_send(&refused, trial.setup.settle)?;
                wire.close();
            }
        }
    }
    // Their descriptors are free once the server has seen it.
    trial.pause(trial.setup.settle)?;
    let mut wires = vec![];
    for _ in 0..count {
        wires.push(trial.connect()?);
    }
    stay_active(trial, &mut wires)
}

fn many_are_silent(trial: &mut CaseTrial<'_>) -> Judged {
    let part = trial.cut_payload(1000).unwrap_or_default();
    let mut silent = vec![];
    for number in 0..trial.setup.together(SILENT) {
        let (mut wire, since) = idle_wire(trial)?;
        // A receive inside a message and one between two are often not in the same place.
        if number % 2 == 0 {
            wire.try_send(&part, trial.setup.settle)?;
        }
        silent.push((wire, since));
    }
    let mut judged = Verdict::Pass;
    for (wire, since) in &mut silent {
        judged = judge_silence(
            trial,
            wire,
            *since,
            "each of the clients that are silent at the same time",
        )?;
    }
    Ok(judged)
}

/// Clients, but at least one, that are served one after the other in a small part of the time
/// between two messages.
fn served_in_a_pause(trial: &CaseTrial<'_>, each: Duration) -> usize {
    let times = steady_pause(trial).as_secs_f64() / each.as_secs_f64().max(1e-6);
    (times as usize / 2).max(1)
}

/// When the first byte of some answers came, and the longest wait for more of them.
struct Arrival {
    first: Duration,
    gap: Duration,
}

/// Sends messages in one go, so that none of them acknowledges an answer, and waits for all
/// answers.
fn timed(wire: &mut Wire<'_>, messages: &[Request]) -> Judged<Arrival> {
    let bytes = concat(messages);
    let messages: Vec<&Request> = messages.iter().collect();
    let (mut got, mut answers) = (vec![], Answers::to(&messages));
    let mut times = vec![Instant::now()];
    wire.send(&bytes)?;
    while answers.are_awaited() {
        let before = got.len();
        if !wire.receive_into(&mut got, usize::MAX, wire.patience())? {
            break;
        }
        times.push(Instant::now());
        answers.add(&got[before..]);
    }
    wire.expect_rest(got, &messages)?;
    let mut gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    Ok(Arrival { first: gaps.next().unwrap_or_default(), gap: gaps.max().unwrap_or_default() })
}

/// A server that takes its time for a message takes it for the first one too, so what counts is how
/// much longer the rest of the answers takes.
fn delayed_acknowledgement(trial: &mut CaseTrial<'_>) -> Judged {
    let mut wire = trial.connect()?;
    let path = wire.round_trip();
    let (mut firsts, mut gaps) = (vec![], vec![]);
    for _ in 0..TIMED_PAIRS {
        let pair = [trial.message(16), trial.message(16)];
        wire.acknowledge_late();
        let Arrival { first, gap } = timed(&mut wire, &pair)?;
        firsts.push(first.saturating_sub(path));
        gaps.push(gap);
    }
    firsts.sort();
    gaps.sort();
    let (first, gap) = (firsts[TIMED_PAIRS / 2], gaps[TIMED_PAIRS / 2]);
    let millis = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
    let got = format!(
        "of two small answers the first came after {}, the rest {} later (medians of \
         {TIMED_PAIRS})",
        millis(first),
        millis(gap)
    );
    match gap > DELAYED_ACK && gap > first.mul_f64(1.5) {
        true => Err(Verdict::warn("small answers go out at once", got)),
        false => Ok(Verdict::Info(got)),
    }
}

fn not_reading(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(UNREAD_MESSAGE_BYTES);
    if message.bytes.len() < UNREAD_MESSAGE_MIN {
        let why = "messages are too short here: a server is busy with them and not kept waiting";
        return Ok(Verdict::skipped(why));
    }
    let mut wire = trial.connect_narrow()?;
    // A server that is only slow owes nothing: it has to stand still for long.
    let stall = trial.setup.timeout.map_or(STALL, |timeout| STALL.max(timeout / 2));
    let frame = &message.bytes;
    let unread = wire.send_unread(&message, stall)?;
    if trial.setup.timeout.is_some() {
        unread.expect_waiting()?;
    }
    let sent = unread.taken;
    // The last message may be cut.
    let owed = sent - sent % frame.len() as u64;
    // A send that has moved a part before its timeout counts as progress (SO_SNDTIMEO,
    // `socket(7)`), and the next one has the whole timeout again.
    let longest = trial.setup.timeout.map_or(measured_max(trial), |timeout| timeout * 2 + LATE);
    let (since, queued) = (Instant::now(), wire.queued());
    let is_reset = wire.await_reset_unread(longest)?;
    let (took, has_moved) = (since.elapsed(), wire.queued() != queued);
    let expected = "a client that does not read its answers is ended";
    if !is_reset {
        // A FIN would come after answers that we did not take. What is answered now was not ended.
        let mut got = vec![];
        let draining = Instant::now();
        while (got.len() as u64) < owed && draining.elapsed() < DRAIN && wire.end().is_none() {
            wire.receive_into(&mut got, sent as usize, STALL)?;
        }
        // All answers are there: it has an end to show, if it has one.
        wire.receive_into(&mut vec![], 1, STALL)?;
        // The server's kernel may repeat what it could not send after seconds only.
        let is_cut_short = wire.end().is_none() && (got.len() as u64) < owed;
        if is_cut_short && trial.setup.timeout.is_some() {
            return Err(Verdict::inconclusive("the path is too slow to see whether an end comes"));
        }
        if wire.end().is_none() || got.len() as u64 >= owed {
            let got = format!(
                "after {} without a byte read it went on and sent {} of {} bytes",
                seconds(took),
                grouped(got.len() as u64),
                grouped(sent)
            );
            return match trial.setup.timeout {
                Some(_) if has_moved => Err(Verdict::inconclusive(
                    "too slow to be made to wait: it read or answered now and then all the while",
                )),
                Some(_) => Err(Verdict::fail(expected, got)),
                None => Ok(Verdict::Info(format!("not ended within {}", seconds(longest)))),
            };
        }
    }
    match trial.setup.timeout {
        Some(_) => Ok(Verdict::Pass),
        None => Ok(Verdict::Info(format!("ended within {}", seconds(took)))),
    }
}
