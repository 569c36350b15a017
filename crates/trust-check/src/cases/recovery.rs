//! Whatever a client does, the next one is served, and gets its own bytes.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use trust_cli::text::seconds;

use crate::case::{Case, Isolation, Needs};
use crate::exchange::learned::Learned;
use crate::request::{Request, concat};
use crate::setup::CONNECT_SLOW;
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Finding, Judged, Verdict};
use crate::wire::{Pace, Wire};

/// Clients that come one after the other.
const SEQUENTIAL: usize = 100;

/// Clients that are served at the same time.
const CONCURRENT: usize = 50;

/// Messages of each of them.
const CONCURRENT_MESSAGES: usize = 3;

/// Clients that vanish in the middle of something.
const VANISHED: usize = 20;

/// Connections that break while the server sends: enough that some break between two of its sends.
const BROKEN: usize = 10;

/// Bytes that the first of them sends; later ones send twice as much, and again.
const UNREAD_MIN: u64 = 32 * 1024;

/// Pairs of a good and a bad client.
const PAIRS: usize = 10;

/// Bytes of garbage.
const GARBAGE_BYTES: u64 = 4096;

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "recovery/1",
        title: "the next client after a FIN inside a header",
        requirement: "What one client left unfinished changes nothing for the next one",
        source: "docs/PROTOCOL.md (truncated_frame)",
        bug: "a short read ends the process, or its bytes stay in a buffer that the next client \
              gets",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let part = trial.cut_header()?;
            next_after(trial, &part, "a FIN inside a header")
        },
    },
    Case {
        id: "recovery/2",
        title: "the next client after a refused length",
        requirement: "A refusal ends one connection and nothing else",
        source: "docs/PROTOCOL.md (frame_too_large)",
        bug: "a length above the limit ends the process",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let header = trial.refused()?;
            next_after(trial, &header, "a length above the limit")
        },
    },
    Case {
        id: "recovery/3",
        title: "the next client after garbage",
        requirement: "Bytes that make no sense end one connection at most",
        source: "docs/PROTOCOL.md; RFC 9293, 3.5.2",
        bug: "text where a length belongs, or a length of all ones, ends the process",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: after_garbage,
    },
    Case {
        id: "recovery/4",
        title: "the next client after connections that broke while the server sent",
        requirement: "Sending into a connection that is gone is an error of that connection, not a \
                      signal that ends the process",
        source: "send(2) (EPIPE, MSG_NOSIGNAL); signal(7) (SIGPIPE)",
        bug: "SIGPIPE is not ignored, or the error of a send ends the process",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: broken_while_sending,
    },
    Case {
        id: "recovery/5",
        title: "a hundred clients one after the other",
        requirement: "What a connection took is given back when it ends",
        source: "close(2); accept(2) (EMFILE)",
        bug: "places, threads or descriptors of clients that left are never used again",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: sequential,
    },
    Case {
        id: "recovery/6",
        title: "fifty clients at the same time, each with bytes of its own",
        requirement: "Every client gets its own bytes back, and no others",
        source: "RFC 862; docs/PROTOCOL.md",
        bug: "a buffer that connections share, or an answer that goes to a reused descriptor",
        needs: Needs::Anything,
        isolation: Isolation::Crowd,
        run: concurrent,
    },
    Case {
        id: "recovery/7",
        title: "a client that is cut in the middle changes nothing for another one",
        requirement: "State of a connection begins and ends with it",
        source: "RFC 9293, 3.5.2; docs/PROTOCOL.md",
        bug: "one buffer for the unfinished messages of all connections",
        needs: Needs::Length,
        isolation: Isolation::Several,
        run: cut_beside_another,
    },
    Case {
        id: "recovery/8",
        title: "a new client after twenty that vanished in the middle",
        requirement: "Connections that break give their places back",
        source: "RFC 9293, 3.5.2; recv(2) (ECONNRESET)",
        bug: "the path of errors forgets what the path of the orderly end gives back",
        needs: Needs::Anything,
        isolation: Isolation::Alone,
        run: after_vanished,
    },
    Case {
        id: "recovery/9",
        title: "good and bad clients in turn",
        requirement: "A good client is served, whatever the one before it did",
        source: "docs/PROTOCOL.md",
        bug: "an error sets something that only a restart takes back",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: good_and_bad,
    },
    Case {
        id: "recovery/10",
        title: "two clients that do not read for a while, each with bytes of its own",
        requirement: "Answers that wait for their client go to that client, whatever other \
                      clients' answers are waiting",
        source: "RFC 862; docs/PROTOCOL.md (back-pressure)",
        bug: "one place for the answers that the kernel did not take at once: they go to another \
              client, or replace its own",
        needs: Needs::Anything,
        isolation: Isolation::Several,
        run: two_do_not_read,
    },
    Case {
        id: "recovery/11",
        title: "clients that leave before their answers, each followed by another one",
        requirement: "An answer goes to the client that asked, or to none",
        source: "close(2); RFC 9293, 3.5.2",
        bug: "the answer for a client that has left goes to the next one: by a reused descriptor, \
              or a connection behind a proxy that others use after it",
        needs: Needs::Anything,
        isolation: Isolation::Several,
        run: followed_by_others,
    },
    Case {
        id: "recovery/12",
        title: "clients whose messages come in pieces, in turn",
        requirement: "State of a connection begins and ends with it",
        source: "RFC 9293, 3.5.2; docs/PROTOCOL.md",
        bug: "pieces of several clients meet in one buffer, or the answer goes to the client whose \
              piece came last",
        needs: Needs::Messages,
        isolation: Isolation::Several,
        run: pieces_in_turn,
    },
];

/// Clients that leave before their answers, one after the other, beside one that is silent.
const FOLLOWED: usize = 20;

/// Clients whose pieces come in turn.
const IN_TURN: usize = 3;

/// Bytes of a message of a client that does not read.
const UNREAD_MESSAGE_BYTES: u64 = 16 * 1024;

/// Bytes that each of them sends at most: more than a server's kernel holds of answers over a
/// narrow path.
const UNREAD_MAX: usize = 4 * 1024 * 1024;

/// Longest time for their answers once they are read.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(4);

/// A server that takes nothing for that long waits for its client.
const UNREAD_STALL: Duration = Duration::from_millis(100);

/// A client sends this and closes; the next one is served.
fn next_after(trial: &mut CaseTrial<'_>, bytes: &[u8], what: &str) -> Judged {
    let mut wire = trial.connect()?;
    wire.send(bytes)?;
    wire.finish();
    // However it ends; that is the matter of other cases.
    wire.drain(trial.setup.patience)?;
    wire.close();
    trial.expect_service(what)?;
    Ok(Verdict::Pass)
}

fn after_garbage(trial: &mut CaseTrial<'_>) -> Judged {
    let random = trial.garbage(GARBAGE_BYTES as usize);
    let kinds: [(&str, &[u8]); 4] = [
        ("random bytes", &random),
        ("a request of HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("bytes of 0xff", &[0xff; GARBAGE_BYTES as usize]),
        ("half a character of UTF-8", b"\xc3"),
    ];
    for (what, bytes) in kinds {
        let mut wire = trial.connect()?;
        wire.send_receiving(bytes, &mut vec![], trial.setup.settle)?;
        wire.finish();
        // The server is to have seen it.
        wire.drain(trial.setup.settle)?;
        wire.close();
        trial.expect_service(what)?;
    }
    Ok(Verdict::Pass)
}

/// Half of the clients reset at once, and the others after a FIN: the next send of the server meets
/// ECONNRESET, or EPIPE at once. They differ in how much the server has still to receive by then.
fn broken_while_sending(trial: &mut CaseTrial<'_>) -> Judged {
    for number in 0..BROKEN {
        let messages = trial.messages(100, UNREAD_MIN << (number / 2));
        let mut wire = trial.connect()?;
        wire.try_send(&concat(&messages), trial.setup.settle)?;
        if number % 2 == 0 {
            wire.finish();
        }
        wire.reset();
        // A short accept queue is to be emptied.
        trial.pause(trial.setup.settle / 4)?;
    }
    trial.expect_service("connections that broke while the server sent")?;
    Ok(Verdict::Pass)
}

fn sequential(trial: &mut CaseTrial<'_>) -> Judged {
    for number in 0..SEQUENTIAL {
        let message = trial.message(64);
        let served = (|| {
            let mut wire = trial.connect()?;
            wire.send(&message.bytes)?;
            wire.expect_answers(&[&message])
        })();
        served.map_err(|verdict: Verdict| {
            let expected = format!("{SEQUENTIAL} clients are served, one after the other");
            verdict.retold(expected, |got| format!("client {}: {got}", number + 1))
        })?;
    }
    Ok(Verdict::Pass)
}

/// Each client sends as soon as it is connected: a server with a timeout may end one that waits for
/// the others. Neither is it a bug that one is turned away, nor that one finds the accept queue
/// full and waits.
fn concurrent(trial: &mut CaseTrial<'_>) -> Judged {
    let count = trial.setup.together(CONCURRENT);
    let slow_before = trial.setup.rate.slow_connects();
    let names = trial.reserve(count);
    let clients: Vec<(u32, Vec<Request>)> = names
        .map(|name| (name, (0..CONCURRENT_MESSAGES).map(|_| trial.message(500)).collect()))
        .collect();
    let (all, shared) = (Barrier::new(count), &*trial);
    // All of them at once, so that the server has bytes of several in its hands.
    let served = thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter()
            .map(|(name, messages)| scope.spawn(|| one_of_many(shared, *name, messages, &all)))
            .collect();
        let ends =
            running.into_iter().map(|client| client.join().expect("a client does not panic"));
        ends.collect::<Vec<Judged<Wire<'_>>>>()
    });
    let mut turned_away = 0;
    for served in served {
        match served {
            Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. })) => {
                turned_away += 1;
            }
            served => drop(served?),
        }
    }
    let slow = trial.setup.rate.slow_connects() - slow_before;
    match turned_away {
        0 if slow > 0 => Ok(Verdict::Info(format!(
            "{slow} of {count} connects took over {}, as their handshake met a full accept queue: \
             it holds about {} (the backlog of listen)",
            seconds(CONNECT_SLOW),
            (count as u64).saturating_sub(slow)
        ))),
        0 => Ok(could_be_told_apart(trial)),
        _ if turned_away + 1 >= count || trial.setup.max_clients.is_some() => {
            Err(Verdict::fail_by(
                Evidence::Refusal { beside: count as u64 },
                format!("{count} clients are served at the same time"),
                format!("{turned_away} of them were turned away"),
            ))
        }
        _ => {
            trial.setup.rate.note_turned_away((count - turned_away) as u64);
            Ok(Verdict::Info(format!(
                "{turned_away} of {count} clients were turned away: a limit on clients \
                 (--max-clients); the others got their own bytes"
            )))
        }
    }
}

/// The client stays until all have been served.
fn one_of_many<'s>(
    trial: &CaseTrial<'s>,
    name: u32,
    messages: &[Request],
    all: &Barrier,
) -> Judged<Wire<'s>> {
    all.wait();
    let mut wire = trial.connect_as(name)?;
    let (bytes, mut got) = (concat(messages), vec![]);
    wire.send_receiving(&bytes, &mut got, wire.patience())?;
    wire.await_admission()?;
    let messages: Vec<&Request> = messages.iter().collect();
    wire.expect_rest(got, &messages)?;
    Ok(wire)
}

fn cut_beside_another(trial: &mut CaseTrial<'_>) -> Judged {
    let part = trial.cut_payload(1000)?;
    let [ours, hello] = [trial.message(1000), trial.message(32)];
    let frame = &ours.bytes;
    let mut cut = trial.connect()?;
    let mut other = trial.connect()?;
    let half = frame.len() / 2;
    let _ = cut.send_piece(&part)?;
    let _ = other.send_piece(&frame[..half])?;
    cut.reset();
    trial.pause(trial.setup.settle)?;
    // Who comes now gets the place of the one that was cut.
    let mut new = trial.connect()?;
    new.send(&hello.bytes)?;
    new.expect_answers(&[&hello])?;
    other.send(&frame[half..])?;
    other.expect_answers(&[&ours])?;
    Ok(Verdict::Pass)
}

fn after_vanished(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(1000);
    let frame = &message.bytes;
    let mut held = vec![];
    let count = trial.setup.crowd(VANISHED);
    for _ in 0..count {
        let mut wire = match trial.setup.one_at_a_time {
            // They wait for their greeting.
            true => trial.connect_alone()?,
            false => trial.connect()?,
        };
        wire.try_send(&frame[..frame.len() / 2], trial.setup.settle)?;
        held.push(wire);
    }
    trial.pause(trial.setup.settle)?;
    held.into_iter().for_each(Wire::reset);
    trial.pause(trial.setup.settle)?;
    trial.expect_service(&format!("{count} clients that were reset in the middle of a message"))?;
    Ok(Verdict::Pass)
}

fn good_and_bad(trial: &mut CaseTrial<'_>) -> Judged {
    let part = trial.cut_payload(1000).unwrap_or_default();
    for number in 0..PAIRS {
        let mut bad = trial.connect()?;
        match number % 3 {
            0 => {
                bad.send(&part)?;
                bad.reset();
            }
            1 => {
                bad.send(&part)?;
                bad.finish();
                bad.drain(trial.setup.settle)?;
                bad.close();
            }
            _ => {
                let refused = trial.refused().unwrap_or_default();
                bad.send(&refused)?;
                bad.close();
            }
        }
        trial.expect_service("a bad client")?;
    }
    Ok(Verdict::Pass)
}

fn two_do_not_read(trial: &mut CaseTrial<'_>) -> Judged {
    let messages =
        [trial.unread_message(UNREAD_MESSAGE_BYTES)?, trial.unread_message(UNREAD_MESSAGE_BYTES)?];
    let stall = trial.setup.timeout.map_or(UNREAD_STALL, |timeout| UNREAD_STALL.min(timeout / 8));
    let mut clients = vec![];
    for message in &messages {
        let mut pace = Pace::within(UNREAD_TIME_MAX, trial.setup);
        let mut wire = trial.connect_narrow()?;
        for count in [1, 8] {
            wire.exchange_at(&vec![message; count], 0, &mut pace)?;
        }
        clients.push((wire, pace, message, 0));
    }
    for (wire, _, message, sent) in &mut clients {
        let frame = &message.bytes;
        let many = frame.repeat(UNREAD_MAX / frame.len());
        *sent = wire.try_send_for(&many, stall, UNREAD_TIME_MAX / 4)?;
        wire.note("reads nothing while the server takes what it can");
    }
    // Both at the same time: that one client holds another one up is for another case.
    thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter_mut()
            .map(|(wire, pace, message, sent)| {
                let count = sent.div_ceil(message.bytes.len());
                let messages = vec![*message; count];
                scope.spawn(move || wire.exchange_at(&messages, *sent, pace))
            })
            .collect();
        running.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    Ok(Verdict::Pass)
}

fn followed_by_others(trial: &mut CaseTrial<'_>) -> Judged {
    for number in 0..FOLLOWED {
        let [first, second] = [trial.message(200), trial.message(100)];
        let has_room = trial.setup.together(3) == 3;
        let mut silent = if has_room { Some(trial.connect()?) } else { None };
        let mut gone = trial.connect()?;
        gone.try_send(&first.bytes, trial.setup.settle)?;
        match number % 3 {
            0 => gone.reset(),
            1 => gone.close_at_once(),
            // The server is to have answered, and nothing of it was read.
            _ => {
                trial.pause(trial.setup.settle / 4)?;
                gone.reset();
            }
        }
        let mut next = trial.connect()?;
        next.send(&second.bytes)?;
        next.expect_answers(&[&second])?;
        next.expect_nothing_else()?;
        if let Some(silent) = &mut silent {
            silent.expect_nothing_else()?;
        }
    }
    Ok(could_be_told_apart(trial))
}

fn pieces_in_turn(trial: &mut CaseTrial<'_>) -> Judged {
    let count = trial.setup.together(IN_TURN);
    let messages: Vec<Request> = (0..count).map(|_| trial.message(120)).collect();
    let mut wires = vec![];
    for message in &messages {
        let mut wire = trial.connect()?;
        let _ = wire.send_piece(&message.bytes[..message.bytes.len() / 2])?;
        wires.push(wire);
    }
    // The last of them first.
    for (wire, message) in wires.iter_mut().zip(&messages).rev() {
        wire.send(&message.bytes[message.bytes.len() / 2..])?;
        wire.expect_answers(&[message])?;
    }
    for wire in &mut wires {
        wire.expect_nothing_else()?;
    }
    Ok(could_be_told_apart(trial))
}

/// What it says that every client was answered: little, where all answers are alike.
fn could_be_told_apart(trial: &CaseTrial<'_>) -> Verdict {
    match trial.setup.exchanges.as_ref().is_none_or(Learned::are_told_apart) {
        true => Verdict::Pass,
        false => Verdict::Info(
            "all were answered; the answers are alike, so that one in another's place would not \
             show"
                .to_owned(),
        ),
    }
}
