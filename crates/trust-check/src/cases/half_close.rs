//! Clients that say "that was all" and still want their answers (`shutdown(2)`).

use std::time::Duration;

use crate::case::{Case, Isolation, Needs};
use crate::exchange::learned::Learned;
use crate::request::{Request, answers_len, concat};
use crate::setup::LARGE_MAX;
use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};
use crate::wire::Wire;

/// Messages that are owed when the FIN goes.
const OWED_MESSAGES: u64 = 200;

/// Bytes of each of them.
const OWED_MESSAGE_BYTES: u64 = 100;

/// Bytes of answers that a slow reader is owed: more than it makes room for and a kernel
/// buffers at first, and little enough to take a moment only.
const SLOW_BYTES: u64 = 1024 * 1024;

/// Bytes that a slow reader makes room for.
const SLOW_ROOM: usize = 32 * 1024;

/// Bytes that a slow reader takes at once.
const SLOW_SIP: usize = 4096;

/// How long a slow reader waits between two sips, and how often it does; then it takes the rest as
/// it comes.
const SLOW_PAUSE: Duration = Duration::from_millis(2);
const SLOW_PAUSES: u32 = 50;

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "half-close/1",
        title: "one message and a FIN: the answer still comes",
        requirement: "A client that has finished sending is answered before the connection ends",
        source: "RFC 1122, 4.2.2.13; RFC 9293, 3.6.1; shutdown(2)",
        bug: "the client's FIN closes both directions, and the answer is lost",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: |trial| all_answered(trial, 32, 32, How::FinLater),
    },
    Case {
        id: "half-close/2",
        title: "many messages and a FIN: all answers still come",
        requirement: "Everything that arrived before a FIN is answered, in order",
        source: "RFC 1122, 4.2.2.13; RFC 9293, 3.6.1; shutdown(2)",
        bug: "what is still in a buffer when the stream ends is dropped",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: |trial| {
            let total = OWED_MESSAGES * OWED_MESSAGE_BYTES;
            all_answered(trial, OWED_MESSAGE_BYTES, total, How::FinLater)
        },
    },
    Case {
        id: "half-close/3",
        title: "large answers to a slow reader that has finished sending",
        requirement: "Answers that the kernel could not take yet survive the client's FIN",
        source: "RFC 1122, 4.2.2.13; RFC 9293, 3.6.1; send(2) (EAGAIN)",
        bug: "output that is queued when the FIN comes is dropped, or cut off by SO_LINGER",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: large_answers_to_a_slow_reader,
    },
    Case {
        id: "half-close/4",
        title: "messages and the FIN in one go: all are answered",
        requirement: "A readiness that says \"readable\" and \"closed\" at once means to read \
                      first",
        source: "poll(2) (POLLRDHUP); RFC 9293, 3.6.1",
        bug: "POLLRDHUP or POLLHUP is looked at before POLLIN, and unread messages are dropped",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: |trial| all_answered(trial, 32, 96, How::FinAtOnce),
    },
    Case {
        id: "half-close/5",
        title: "a whole message, a part of one, and a FIN",
        requirement: "The whole one is answered, the part is not, and the connection ends",
        source: "docs/PROTOCOL.md (truncated_frame)",
        bug: "the part is echoed as a message, or takes the whole one's answer with it",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: part_and_fin,
    },
    Case {
        id: "half-close/6",
        title: "a FIN without a byte ends the connection",
        requirement: "A stream of no messages is valid; the server closes and sends nothing",
        source: "RFC 9293, 3.6; recv(2)",
        bug: "the end is only looked for after a message",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: fin_without_data,
    },
];

/// When the FIN goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// In a call of its own.
    FinLater,
    /// In the last segment of the messages.
    FinAtOnce,
}

fn all_answered(trial: &mut CaseTrial<'_>, each: u64, total: u64, how: How) -> Judged {
    let messages = trial.messages(each, total);
    let bytes = concat(&messages);
    let mut wire = trial.connect()?;
    match how {
        How::FinLater => {
            wire.send(&bytes)?;
            wire.finish();
        }
        How::FinAtOnce => wire.send_and_finish(&bytes)?,
    }
    answered_and_ended(&mut wire, vec![], &messages)
}

/// All answers come, what there is of them in `got` already, and then the end.
fn answered_and_ended(wire: &mut Wire<'_>, got: Vec<u8>, messages: &[Request]) -> Judged {
    let messages: Vec<&Request> = messages.iter().collect();
    wire.expect_rest(got, &messages)?;
    wire.expect_end("because the client has finished and has all its answers")?;
    Ok(Verdict::Pass)
}

fn large_answers_to_a_slow_reader(trial: &mut CaseTrial<'_>) -> Judged {
    // The kernel of a server that does not echo has room for more.
    let total = if trial.setup.exchanges.is_some() { LARGE_MAX } else { SLOW_BYTES };
    let messages = trial.long_answers(SLOW_BYTES, total)?;
    let (bytes, owed) = (concat(&messages), answers_len(&messages));
    let mut wire = trial.connect_to_fill()?;
    wire.receive_at_most(SLOW_ROOM);
    // A server that writes an answer before it reads on makes us read before all is sent.
    let mut sent = 0;
    let mut got = vec![];
    while sent < bytes.len() && wire.end().is_none() {
        sent += wire.try_send(&bytes[sent..], trial.setup.settle)?;
        let limit = got.len() + SLOW_SIP;
        if sent < bytes.len() && !wire.receive_into(&mut got, limit, trial.setup.patience)? {
            break;
        }
    }
    wire.finish();
    for _ in 0..SLOW_PAUSES {
        trial.pause(SLOW_PAUSE)?;
        let limit = owed.min(got.len() + SLOW_SIP);
        if got.len() >= owed || !wire.receive_into(&mut got, limit, trial.setup.patience)? {
            break;
        }
    }
    answered_and_ended(&mut wire, got, &messages)
}

fn part_and_fin(trial: &mut CaseTrial<'_>) -> Judged {
    let messages = trial.messages(32, 32);
    let part = trial.cut_payload(1000)?;
    let mut wire = trial.connect()?;
    wire.send_and_finish(&[concat(&messages), part].concat())?;
    answered_and_ended(&mut wire, vec![], &messages)
}

fn fin_without_data(trial: &mut CaseTrial<'_>) -> Judged {
    if trial.setup.exchanges.as_ref().is_some_and(Learned::has_greeting) {
        return Ok(Verdict::skipped("the server speaks first"));
    }
    let mut wire = trial.connect()?;
    wire.finish();
    wire.expect_end("because the client did, without a message")?;
    Ok(Verdict::Pass)
}
