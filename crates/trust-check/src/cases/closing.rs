//! How the server ends a connection, and what it makes of the ends that clients choose.

use std::time::{Duration, Instant};

use trust_cli::text::seconds;

use crate::case::{Case, Isolation, Needs};
use crate::request::{self, Request, answers_len, concat};
use crate::setup::OnReset;
use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};
use crate::wire::{ConnectionEnd, Pace, STALL, Wire};

/// Clients that leave before the server can look at them: enough that some leave before they are
/// accepted.
const HASTY_CLIENTS: u32 = 20;

/// How many of them come at once: as many as a short backlog holds, with which others would wait
/// for a second.
const HASTY_AT_ONCE: u32 = 5;

/// Bytes after a refused header: more than a server receives at once, so that some are unread when
/// it closes.
const AFTER_REFUSAL: usize = 256 * 1024;

/// Why the server ends the connection.
const ABOVE_THE_LIMIT: &str = "because a length is above the limit";

/// An end that took longer came from a timer and not from the FIN, whatever the path.
const PROMPT: Duration = Duration::from_secs(1);

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "closing/1",
        title: "a FIN between messages is answered by a FIN",
        requirement: "A client that has said all closes; the server closes too, in order",
        source: "RFC 9293, 3.6; recv(2)",
        bug: "a receive of 0 bytes is not taken for the end, and the connection stays in \
              CLOSE_WAIT",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: fin_between_messages,
    },
    Case {
        id: "closing/2",
        title: "a FIN inside the header ends the connection",
        requirement: "What can never become whole is not waited for, and not answered",
        source: "docs/PROTOCOL.md (truncated_frame); recv(2)",
        bug: "the loop that reads a header takes 0 bytes for \"not yet\", and spins or waits for \
              ever",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let part = trial.cut_header()?;
            cut_by_fin(trial, &part, "the rest of the header can never come")
        },
    },
    Case {
        id: "closing/3",
        title: "a FIN inside the payload ends the connection",
        requirement: "An unfinished message of a client that has left is never answered",
        source: "docs/PROTOCOL.md (truncated_frame); recv(2)",
        bug: "what has arrived of a message is taken for all of it when the stream ends",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let part = trial.cut_payload(1000)?;
            cut_by_fin(trial, &part, "the rest of the payload can never come")
        },
    },
    Case {
        id: "closing/4",
        title: "answers arrive although unread data is queued after a bad header",
        requirement: "Every message before a refused one is answered before the connection ends",
        source: "RFC 1122, 4.2.2.13; docs/PROTOCOL.md",
        bug: "answers still in a buffer are dropped with the connection, or a RST overtakes them",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: answers_before_a_refusal,
    },
    Case {
        id: "closing/5",
        title: "a client that resets while idle does no harm",
        requirement: "A connection that was reset is forgotten, and the next client is served",
        source: "RFC 9293, 3.5.2; recv(2) (ECONNRESET)",
        bug: "ECONNRESET is not handled, and ends the process",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: |trial| reset_after(trial, &[], "a reset while idle"),
    },
    Case {
        id: "closing/6",
        title: "a reset inside the header does no harm",
        requirement: "A connection that was reset is forgotten, and the next client is served",
        source: "RFC 9293, 3.5.2; recv(2) (ECONNRESET)",
        bug: "an error in the middle of a header is not expected, and ends the process or keeps \
              the place",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let part = trial.cut_header()?;
            reset_after(trial, &part, "a reset inside a header")
        },
    },
    Case {
        id: "closing/7",
        title: "a reset inside the payload does no harm",
        requirement: "A connection that was reset is forgotten, and the next client is served",
        source: "RFC 9293, 3.5.2; recv(2) (ECONNRESET)",
        bug: "an error in the middle of a payload is not expected, and ends the process or keeps \
              the place",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| {
            let part = trial.cut_payload(1000)?;
            reset_after(trial, &part, "a reset inside a payload")
        },
    },
    Case {
        id: "closing/8",
        title: "a reset with answers owed does no harm",
        requirement: "A failed send ends one connection, and the next client is served",
        source: "send(2) (EPIPE, ECONNRESET); docs/ENDINGS.md",
        bug: "the error of a send is not expected, and ends the process",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: reset_with_answers_owed,
    },
    Case {
        id: "closing/9",
        title: "clients that reset before they are accepted do no harm",
        requirement: "An accept that fails, or gives a dead connection, ends nothing but that \
                      connection",
        source: "accept(2) (ECONNABORTED); getpeername(2) (ENOTCONN)",
        bug: "accept loop that ends at its first error, or asks a dead socket for its peer",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: reset_before_accept,
    },
    Case {
        id: "closing/10",
        title: "clients that close at once do no harm",
        requirement: "A connection without a byte is an end like any other",
        source: "recv(2); docs/PROTOCOL.md (peer_fin)",
        bug: "the first receive is expected to bring something",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: close_at_once,
    },
    Case {
        id: "closing/11",
        title: "the end comes with the client's FIN, not with a timeout",
        requirement: "A server that owes nothing closes as soon as the client has",
        source: "RFC 9293, 3.6; recv(2)",
        bug: "the FIN is not noticed, and only the idle timeout ends the connection",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: prompt_end,
    },
    Case {
        id: "closing/12",
        title: "a refused message is answered by a FIN rather than a RST",
        requirement: "After a refusal the server shuts down, and reads on until the client has \
                      closed too",
        source: "RFC 1122, 4.2.2.13; docs/PROTOCOL.md (orderly end)",
        bug: "the connection stays open after a length that is refused, or close() with unread \
              data makes the kernel reset it",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: refused_by_fin,
    },
    Case {
        id: "closing/13",
        title: "large answers arrive although the client reads them only after the server has \
                closed",
        requirement: "Every message before a refused one is answered, also if the answers are \
                      large and not read at once",
        source: "RFC 1122, 4.2.2.13; RFC 9112, 9.6; docs/PROTOCOL.md (orderly end)",
        bug: "close() with unread bytes makes the kernel reset the connection and drop the answers \
              that it has not sent yet, or owed answers are dropped with the connection",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: large_answers_before_a_refusal,
    },
];

/// Bytes of answers that are left unread until the server has ended the connection: first as many
/// as a kernel takes from the network unread, so that the end can be seen, but more than one
/// segment; then more than that, so that the server still has answers to send when it closes.
const UNREAD_ANSWERS: [u64; 2] = [48 * 1024, 384 * 1024];

/// Bytes of a message that is sent again and again without reading.
const UNREAD_MESSAGE_BYTES: u64 = 16 * 1024;

/// How long the end is waited for where the answers that are before it may not fit into our kernel.
const END_UNREAD: Duration = Duration::from_millis(100);

/// Longest time for answers that were left unread.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(5);

fn fin_between_messages(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(32);
    let mut wire = trial.connect()?;
    wire.send(&message.bytes)?;
    wire.expect_answers(&[&message])?;
    wire.finish();
    wire.expect_end("because the client did")?;
    Ok(Verdict::Pass)
}

/// The client sends a part of a message, and a FIN.
fn cut_by_fin(trial: &mut CaseTrial<'_>, part: &[u8], why: &str) -> Judged {
    let mut wire = trial.connect()?;
    wire.send(part)?;
    wire.finish();
    wire.expect_end(&format!("because {why}"))?;
    Ok(Verdict::Pass)
}

fn answers_before_a_refusal(trial: &mut CaseTrial<'_>) -> Judged {
    let messages = trial.messages(32, 96);
    let bad = trial.refused()?;
    let after = trial.garbage(AFTER_REFUSAL);
    let mut wire = trial.connect()?;
    let bytes = [concat(&messages), bad, after].concat();
    let mut got = vec![];
    // The server need not take what follows the bad header.
    wire.send_receiving(&bytes, &mut got, trial.setup.settle)?;
    let wanted: Vec<&Request> = messages.iter().collect();
    wire.expect_rest(got, &wanted).map_err(|lost| by_reset(trial, &wire, lost))?;
    wire.expect_refusal(ABOVE_THE_LIMIT)?;
    Ok(Verdict::Pass)
}

/// What lost answers count as: a RST in front of them is as the run's settings have it, from a
/// server that does more than echo.
fn by_reset(trial: &CaseTrial<'_>, wire: &Wire<'_>, lost: Verdict) -> Verdict {
    let is_reset = wire.end() == Some(ConnectionEnd::Reset);
    match lost {
        Verdict::Fail(lost)
            if is_reset
                && trial.setup.exchanges.is_some()
                && trial.setup.reset != OnReset::Fail =>
        {
            Verdict::Warn(lost)
        }
        other => other,
    }
}

/// The client sends something, and resets the connection.
fn reset_after(trial: &mut CaseTrial<'_>, bytes: &[u8], what: &str) -> Judged {
    let message = trial.message(32);
    let mut wire = trial.connect()?;
    wire.send(&message.bytes)?;
    wire.expect_answers(&[&message])?;
    // The server is to be found waiting, and not on its way to.
    let _ = wire.send_piece(bytes)?;
    wire.reset();
    trial.pause(trial.setup.settle)?;
    trial.expect_service(what)?;
    Ok(Verdict::Pass)
}

fn reset_with_answers_owed(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.long_answer(UNREAD_MESSAGE_BYTES)?;
    let mut wire = trial.connect_narrow()?;
    // So many that the server waits in the middle of a send.
    let unread = wire.send_unread(&message, STALL)?;
    wire.reset();
    // A server that dies of it is to have died before the next client comes.
    trial.pause(trial.setup.settle)?;
    trial.expect_service("a reset with answers owed")?;
    unread.expect_waiting().map(|()| Verdict::Pass)
}

/// Clients that connect and leave at once, a few at a time.
fn hasty_clients<'s>(trial: &mut CaseTrial<'s>, leave: impl Fn(Wire<'s>)) -> Judged<()> {
    for _ in 0..HASTY_CLIENTS / HASTY_AT_ONCE {
        for _ in 0..HASTY_AT_ONCE {
            leave(trial.connect_alone()?);
        }
        trial.pause(trial.setup.settle)?;
    }
    Ok(())
}

fn reset_before_accept(trial: &mut CaseTrial<'_>) -> Judged {
    hasty_clients(trial, Wire::reset)?;
    trial.expect_service("clients that connected and reset at once")?;
    Ok(Verdict::Pass)
}

fn close_at_once(trial: &mut CaseTrial<'_>) -> Judged {
    hasty_clients(trial, Wire::close_at_once)?;
    trial.expect_service("clients that connected and closed at once")?;
    Ok(Verdict::Pass)
}

fn prompt_end(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(32);
    let mut wire = trial.connect()?;
    wire.send(&message.bytes)?;
    wire.expect_answers(&[&message])?;
    let finished = Instant::now();
    wire.finish();
    let end = wire.expect_any_end("because the client did")?;
    let took = finished.elapsed();
    let expected = "the server closes as soon as the client has";
    match trial.setup.timeout {
        // As long as the timeout, and longer than any path takes.
        Some(timeout) if took >= timeout.mul_f64(0.75).max(PROMPT / 4) => Err(Verdict::fail(
            expected,
            format!("it took {}, with a timeout of {}", seconds(took), seconds(timeout)),
        )),
        _ if took >= PROMPT => Err(Verdict::warn(expected, format!("it took {}", seconds(took)))),
        _ if end == ConnectionEnd::Reset => wire.judge_reset(expected).map(|()| Verdict::Pass),
        _ => Ok(Verdict::Pass),
    }
}

fn refused_by_fin(trial: &mut CaseTrial<'_>) -> Judged {
    let bad = trial.refused()?;
    let after = trial.garbage(AFTER_REFUSAL);
    let mut wire = trial.connect()?;
    // The server need not take what follows the bad header.
    wire.try_send(&[bad, after].concat(), trial.setup.settle)?;
    wire.expect_refusal(ABOVE_THE_LIMIT)?;
    Ok(Verdict::Pass)
}

fn large_answers_before_a_refusal(trial: &mut CaseTrial<'_>) -> Judged {
    let bad = trial.refused()?;
    let after = trial.garbage(AFTER_REFUSAL);
    let mut pace = Pace::within(UNREAD_TIME_MAX, trial.setup);
    let mut ended = Ok(());
    for bytes in UNREAD_ANSWERS {
        let messages = trial.long_answers(UNREAD_ANSWERS[0], bytes)?;
        let wanted: Vec<&Request> = messages.iter().collect();
        let mut wire = trial.connect()?;
        wire.exchange_at(&wanted[..1], 0, &mut pace)?;
        pace.expect(wanted.len())?;
        let owed = answers_len(&messages);
        let all = [&concat(&messages)[..], &bad, &after].concat();
        // The server need not take what follows the bad header.
        let sent = wire.try_send(&all, trial.setup.settle)?;
        wire.await_end_unread(END_UNREAD)?;
        let mut got = vec![];
        wire.send_receiving(&all[sent..], &mut got, trial.setup.settle)?;
        while got.len() < owed && wire.receive_into(&mut got, owed, trial.setup.patience)? {}
        // A RST loses answers that no kernel could have taken unread. The settings of the run
        // decide what that means.
        let is_cut = trial.setup.is_tcp()
            && (bytes > UNREAD_ANSWERS[0] || trial.setup.exchanges.is_some())
            && wire.end() == Some(ConnectionEnd::Reset)
            && request::is_beginning(&wanted, &got);
        let end = match wire.expect_rest(got, &wanted) {
            Err(Verdict::Fail(lost)) if is_cut && trial.setup.reset != OnReset::Fail => {
                Err(Verdict::Warn(lost))
            }
            Err(verdict) => return Err(verdict),
            Ok(()) => wire.expect_refusal(ABOVE_THE_LIMIT),
        };
        match end {
            Ok(()) => {}
            Err(warning @ Verdict::Warn(_)) => ended = Err(warning),
            Err(verdict) => return Err(verdict),
        }
    }
    ended.map(|()| Verdict::Pass)
}
