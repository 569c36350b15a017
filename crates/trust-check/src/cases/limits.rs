//! Clients that take more than their share: many of them, slow ones, and such that do not read.

use std::time::{Duration, Instant};

use trust_cli::text::grouped;

use crate::case::{Case, Isolation, Needs};
use crate::setup::ROOM_PAUSE;
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Finding, Judged, Verdict};
use crate::watch::Watch;
use crate::wire::{ConnectionEnd, STALL, StopReason, UNREAD_ANSWERS_MAX, Wire};

/// Clients that hold a connection at the same time: far below what a server serves, far above a
/// pool of threads.
const CROWD: usize = 50;

/// Clients of a flood: below the backlog of 128 that many servers listen with, so that those who
/// serve one at a time can take it too.
const FLOOD: usize = 120;

/// Longest wait until the last of them is served or sent away. A server that serves one client at a
/// time does neither.
const FLOOD_SEEN_MAX: Duration = Duration::from_secs(1);

/// Clients that trickle a message at the same time.
const TRICKLERS: usize = 20;

/// Bytes that each of them trickles, one at a time.
const TRICKLED_BYTES: usize = 5;

/// Time between two of these.
const TRICKLE_PAUSE: Duration = Duration::from_millis(20);

/// Lengths that a crowd declares where the longest message is not known: long, and not too much
/// together for a server that sets memory aside without using it.
const DECLARED_BYTES: [u64; 2] = [1 << 20, 64 << 10];

/// The divisor of the bytes that a server has taken: if its memory grows by less than that share,
/// it does not queue them.
const QUEUED_PART: u64 = 4;

/// Longest time in which answers that were left unread are read after all.
const DRAIN: Duration = Duration::from_secs(3);

/// Bytes of a message that is sent again and again without reading.
const UNREAD_MESSAGE_BYTES: u64 = 16 * 1024;

/// How often a crowd is filled up at most: a server gives a place back only when it has seen who
/// held it leave.
const CROWD_ROUNDS: usize = 5;

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "limits/1",
        title: "many clients declare the longest message and send nothing of it",
        requirement: "A declared length is a claim: it takes nothing from other clients before the \
                      bytes arrive",
        source: "docs/PROTOCOL.md; CWE-770; CWE-789",
        bug: "memory is taken for every declared length, or a budget is charged with it",
        needs: Needs::Length,
        isolation: Isolation::Crowd,
        run: declared_and_not_sent,
    },
    Case {
        id: "limits/2",
        title: "a message that trickles in does not stop others",
        requirement: "While a message is unfinished other clients are served",
        source: "docs/PROTOCOL.md; poll(2)",
        bug: "an event loop that reads a message to its end, however long that takes",
        needs: Needs::Messages,
        isolation: Isolation::Several,
        run: one_trickles,
    },
    Case {
        id: "limits/3",
        title: "a client that does not read does not stop others",
        requirement: "While a client's answers wait for it other clients are served",
        source: "docs/PROTOCOL.md; send(2) (EAGAIN)",
        bug: "an event loop that sends an answer to its end, however long that takes",
        needs: Needs::Anything,
        isolation: Isolation::Several,
        run: one_does_not_read,
    },
    Case {
        id: "limits/4",
        title: "a flood of connections, and service after it",
        requirement: "Connections beyond what the server can hold may be refused, and when they \
                      have left it serves",
        source: "accept(2) (EMFILE, ENFILE, ENOBUFS)",
        bug: "the accept loop ends when no descriptors or threads are left",
        needs: Needs::Anything,
        isolation: Isolation::Alone,
        run: flood,
    },
    Case {
        id: "limits/5",
        title: "many idle clients, and a new one is served",
        requirement: "An idle client holds a connection and nothing else: no thread of a small \
                      pool",
        source: "docs/PROTOCOL.md",
        bug: "a fixed number of workers, each waiting for one client",
        needs: Needs::Anything,
        isolation: Isolation::Crowd,
        run: many_idle,
    },
    Case {
        id: "limits/6",
        title: "a client that sends and never reads is stopped",
        requirement: "A server that cannot send stops receiving, or ends the connection",
        source: "docs/PROTOCOL.md (back-pressure); RFC 9293, 3.8.6",
        bug: "answers that are not read are queued without a bound",
        needs: Needs::Anything,
        isolation: Isolation::Alone,
        run: how_much_is_taken,
    },
    Case {
        id: "limits/7",
        title: "many clients declare the longest message and trickle it",
        requirement: "Unfinished messages take what has arrived of them, and other clients are \
                      served",
        source: "docs/PROTOCOL.md; CWE-770",
        bug: "a worker, or a part of a budget, is held for as long as a message is unfinished",
        needs: Needs::Length,
        isolation: Isolation::Crowd,
        run: many_trickle,
    },
];

/// A new client is served beside those who hold `held`. One that is sent away at once is no bug
/// where the server sends it away beside as many idle clients too: then it has a limit.
fn expect_service_beside(trial: &mut CaseTrial<'_>, held: Vec<Wire<'_>>, who: &str) -> Judged {
    let count = held.len();
    match serve_one_more(trial, count, who)? {
        OneMore::Served => return Ok(Verdict::Pass),
        OneMore::SentAway => {}
    }
    drop(held);
    let expected = format!("a new client is served beside {count} {who}");
    if trial.setup.max_clients.is_some_and(|most| count < most as usize) {
        return Err(Verdict::warn(expected, "it is sent away without an answer"));
    }
    // The server is to have seen that those have left.
    trial.pause(trial.setup.settle)?;
    let mut held = crowd(trial, count, &[])?;
    if held.len() < count {
        // Perhaps it has not seen that: on a busy machine it takes a while.
        drop(held);
        trial.pause(ROOM_PAUSE.min(trial.setup.patience))?;
        held = crowd(trial, count, &[])?;
    }
    let idle = held.len();
    let few = || Err(Verdict::inconclusive(format!("it kept {idle} idle clients of {count}")));
    match serve_one_more(trial, idle, "idle clients")? {
        // On a busy machine it had not yet ended all those above its limit, or it still held some.
        OneMore::Served if idle < count => few(),
        OneMore::SentAway if idle == 0 => few(),
        OneMore::Served => Err(Verdict::warn(
            expected,
            format!(
                "it is sent away without an answer, and beside {count} idle clients it is served"
            ),
        )),
        OneMore::SentAway => {
            trial.setup.rate.note_turned_away(idle as u64);
            Ok(Verdict::Info(format!(
                "it sends a new client away beside {idle} others: a limit on clients \
                 (--max-clients)"
            )))
        }
    }
}

/// What became of a new client.
enum OneMore {
    Served,
    /// Its connection was refused, or ended before it brought a byte.
    SentAway,
}

fn serve_one_more(trial: &mut CaseTrial<'_>, count: usize, who: &str) -> Judged<OneMore> {
    let hello = trial.message(32);
    trial.note(format!("a new client, beside {count} {who}"));
    let served: Judged<()> = (|| {
        let mut wire = trial.connect()?;
        wire.try_send(&hello.bytes, trial.setup.patience)?;
        wire.expect_answers(&[&hello])
    })();
    match served {
        Ok(()) => Ok(OneMore::Served),
        Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. })) => {
            Ok(OneMore::SentAway)
        }
        Err(other) => {
            Err(other.retold(format!("a new client is served beside {count} {who}"), |got| got))
        }
    }
}

/// Connects `count` clients that send these bytes, and returns those that the server keeps.
fn crowd<'s>(trial: &mut CaseTrial<'s>, count: usize, bytes: &[u8]) -> Judged<Vec<Wire<'s>>> {
    let (count, mut crowd) = (trial.setup.crowd(count), vec![]);
    for round in 0..CROWD_ROUNDS {
        let before = crowd.len();
        for _ in before..count {
            let mut wire = match trial.connect() {
                // Refusing is allowed. What is judged is what becomes of one more.
                Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. })) => break,
                connected => connected?,
            };
            wire.try_send(bytes, trial.setup.settle)?;
            crowd.push(wire);
        }
        trial.pause(trial.setup.settle)?;
        let mut kept = vec![];
        for mut wire in crowd {
            wire.receive_into(&mut vec![], 1, Duration::ZERO)?;
            if wire.end().is_none() {
                kept.push(wire);
            }
        }
        crowd = kept;
        if crowd.len() >= count || round > 0 && crowd.len() <= before {
            break;
        }
    }
    Ok(crowd)
}

fn declared_and_not_sent(trial: &mut CaseTrial<'_>) -> Judged {
    let length = trial.length_to_declare(&DECLARED_BYTES)?;
    let header = trial.declaration(length)?.header;
    let held = crowd(trial, CROWD, &header)?;
    let who = format!("clients that declared {}", declared_message(trial));
    expect_service_beside(trial, held, &who)
}

fn one_trickles(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(1000);
    let frame = &message.bytes;
    let mut slow = trial.connect()?;
    let beginning = frame.len().saturating_sub(1).min(TRICKLED_BYTES);
    let who = "client that sends a message byte by byte";
    for byte in &frame[..beginning] {
        slow.send(&[*byte])?;
        trial.pause(trial.setup.settle)?;
        if let OneMore::SentAway = serve_one_more(trial, 1, who)? {
            return expect_service_beside(trial, vec![slow], who);
        }
    }
    slow.send(&frame[beginning..])?;
    slow.expect_answers(&[&message])?;
    slow.finish();
    Ok(Verdict::Pass)
}

fn one_does_not_read(trial: &mut CaseTrial<'_>) -> Judged {
    let mut deaf = trial.connect_narrow()?;
    let message = trial.long_answer(UNREAD_MESSAGE_BYTES)?;
    let unread = deaf.send_unread(&message, STALL)?;
    let verdict =
        expect_service_beside(trial, vec![deaf], "client that does not read its answers")?;
    unread.expect_waiting().map(|()| verdict)
}

fn flood(trial: &mut CaseTrial<'_>) -> Judged {
    let mut held = vec![];
    while held.len() < FLOOD {
        match trial.connect() {
            Ok(wire) => held.push(wire),
            Err(stopped @ Verdict::Skipped(_)) => return Err(stopped),
            // Refusing is allowed, and so is not to answer in the middle of a flood.
            Err(_) => break,
        }
    }
    let count = held.len();
    // The server is to have seen them before they leave: it accepts in the order of the queue, so
    // an answer to the last one shows that it holds those before it.
    let hello = trial.message(32);
    if let Some(last) = held.last_mut() {
        last.try_send(&hello.bytes, trial.setup.settle)?;
        last.receive_into(&mut vec![], 1, FLOOD_SEEN_MAX.min(trial.setup.patience))?;
    }
    drop(held);
    trial.expect_service(&format!("a flood of {count} connections that have left"))?;
    Ok(Verdict::Pass)
}

fn many_idle(trial: &mut CaseTrial<'_>) -> Judged {
    let held = crowd(trial, CROWD, &[])?;
    expect_service_beside(trial, held, "idle clients")
        .map_err(|why| why.followed_by("; --max-clients says how many it serves at a time"))
}

fn how_much_is_taken(trial: &mut CaseTrial<'_>) -> Judged {
    let mut wire = trial.connect_narrow()?;
    let message = trial.long_answer(UNREAD_MESSAGE_BYTES)?;
    let resident = |trial: &CaseTrial<'_>| trial.watch.map(Watch::resident_bytes);
    let before = resident(trial);
    let unread = wire.send_unread(&message, STALL)?;
    let queued = before.and_then(|before| Some(resident(trial)?.saturating_sub(before)));
    let has_ended = unread.stop == StopReason::All && ends_early(&mut wire, unread.taken)?;
    wire.close();
    trial.expect_service("a client that sent much and read nothing")?;
    let taken = grouped(unread.taken);
    match unread.stop {
        StopReason::Waiting => {
            return Ok(Verdict::Info(format!("it took {taken} bytes, then it stopped reading")));
        }
        StopReason::Ended => {
            return Ok(Verdict::Info(format!(
                "it took {taken} bytes, then it ended the connection"
            )));
        }
        StopReason::OutOfTime => return unread.expect_waiting().map(|()| Verdict::Pass),
        StopReason::All if has_ended => {
            return Ok(Verdict::Info(format!(
                "it took {taken} bytes, as it had ended the connection and ignored them"
            )));
        }
        StopReason::All if queued.is_some_and(|queued| queued < unread.taken / QUEUED_PART) => {
            return Ok(Verdict::Info(format!(
                "{taken} bytes were taken, which are not in the memory of its processes"
            )));
        }
        StopReason::Asked if queued.unwrap_or(0) < UNREAD_ANSWERS_MAX / QUEUED_PART => {
            return Ok(Verdict::Info(format!(
                "it took {taken} bytes, whose answers are more than kernels hold"
            )));
        }
        StopReason::All | StopReason::Asked => {}
    }
    let expected = "a client that does not read is stopped by back-pressure, or ended";
    let got = format!("{taken} bytes were taken, and there was no end of it");
    Err(Verdict::warn(expected, got))
}

/// Whether the server's FIN stands before the answers to what was sent: it had ended the connection
/// and read on.
fn ends_early(wire: &mut Wire<'_>, sent: u64) -> Judged<bool> {
    let (since, mut got, mut count) = (Instant::now(), vec![], 0);
    while count < sent
        && since.elapsed() < DRAIN
        && wire.receive_into(&mut got, usize::MAX, STALL)?
    {
        count += got.len() as u64;
        got.clear();
    }
    Ok(count < sent && wire.end() == Some(ConnectionEnd::Fin))
}

fn many_trickle(trial: &mut CaseTrial<'_>) -> Judged {
    let length = trial.length_to_declare(&DECLARED_BYTES)?;
    let declaration = trial.declaration(length)?;
    let mut held = crowd(trial, TRICKLERS, &declaration.header)?;
    let who = format!("clients that trickle {}", declared_message(trial));
    for place in 0..TRICKLED_BYTES {
        for wire in &mut held {
            // Who is ended meanwhile takes nothing from others.
            wire.try_send(&[declaration.byte(place)], trial.setup.settle)?;
        }
        trial.pause(TRICKLE_PAUSE)?;
        if let OneMore::SentAway = serve_one_more(trial, held.len(), &who)? {
            return expect_service_beside(trial, held, &who);
        }
    }
    Ok(Verdict::Pass)
}

fn declared_message(trial: &CaseTrial<'_>) -> &'static str {
    if trial.setup.has_limit() { "the longest message" } else { "a long message" }
}
