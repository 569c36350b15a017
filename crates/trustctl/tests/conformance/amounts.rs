//! Servers that are right as long as there is little of something: messages, receives, answers, bytes.

use std::net::TcpStream;
use std::ops::ControlFlow;

use socket2::SockRef;

/// What may go wrong when there is much of something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs {
    /// Of the answers to one receive so many are sent; the others are lost.
    pub(crate) answers_max: Option<usize>,
    /// More answers to one receive than this end the connection, as one `sendmsg` with more than IOV_MAX parts fails.
    pub(crate) parts_max: Option<usize>,
    /// So many messages end the connection, in order.
    pub(crate) messages_max: Option<u64>,
    /// So many receives end the connection, in order.
    pub(crate) receives_max: Option<u64>,
    /// The message of this number is not answered.
    pub(crate) loses_message: Option<u64>,
    /// From this message on the last byte of each answer is wrong.
    pub(crate) wrong_from: Option<u64>,
    /// A message that needs more receives than this is refused.
    pub(crate) receives_inside_max: Option<u64>,
    /// After so many receives inside a message the part of it that has arrived is forgotten.
    pub(crate) forgets_after_receives: Option<u64>,
    /// A message of so many bytes, with its header, is not answered.
    pub(crate) loses_frames_of: Option<usize>,
    /// A receive that brings the same message as the one before is not answered.
    pub(crate) drops_repetitions: bool,
    /// A receive of exactly one segment is taken for one that has more behind it.
    pub(crate) full_segment_means_more: bool,
}

/// Nothing wrong.
pub(crate) const NO_BUGS: Bugs = Bugs {
    answers_max: None,
    parts_max: None,
    messages_max: None,
    receives_max: None,
    loses_message: None,
    wrong_from: None,
    receives_inside_max: None,
    forgets_after_receives: None,
    loses_frames_of: None,
    drops_repetitions: false,
    full_segment_means_more: false,
};

/// What one connection has had so far.
#[derive(Debug, Default)]
pub(crate) struct Count {
    messages: u64,
    receives: u64,
    /// Receives since the last message that became whole.
    inside: u64,
    /// The answers to the receive before.
    last: Vec<Vec<u8>>,
}

/// What a receive leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    /// The part of a message that has arrived is given up.
    Forget,
    /// The connection ends.
    End,
}

impl Count {
    /// Counts a receive, with the answers to it, and spoils them.
    pub(crate) fn handle(&mut self, bugs: &Bugs, answers: &mut Vec<Vec<u8>>) -> Next {
        self.receives += 1;
        self.inside = if answers.is_empty() { self.inside + 1 } else { 0 };
        if bugs.parts_max.is_some_and(|most| answers.len() > most) {
            answers.clear();
            return Next::End;
        }
        if bugs.drops_repetitions {
            let before = std::mem::replace(&mut self.last, answers.clone());
            if answers.len() == 1 && before == *answers {
                answers.clear();
            }
        }
        answers.truncate(bugs.answers_max.unwrap_or(usize::MAX));
        let ended = self.count_messages(bugs, answers);
        if ended.is_break()
            || bugs.receives_max.is_some_and(|most| self.receives >= most)
            || bugs.receives_inside_max.is_some_and(|most| self.inside > most)
        {
            return Next::End;
        }
        match bugs.forgets_after_receives.is_some_and(|most| self.inside >= most) {
            true => Next::Forget,
            false => Next::GoOn,
        }
    }

    fn count_messages(&mut self, bugs: &Bugs, answers: &mut Vec<Vec<u8>>) -> ControlFlow<()> {
        let before = self.messages;
        self.messages += answers.len() as u64;
        let left = bugs.messages_max.map_or(u64::MAX, |most| most.saturating_sub(before));
        answers.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let mut number = before;
        answers.retain_mut(|answer| {
            number += 1;
            if let (true, Some(last)) =
                (bugs.wrong_from.is_some_and(|from| number >= from), answer.last_mut())
            {
                *last ^= 1;
            }
            bugs.loses_message != Some(number) && bugs.loses_frames_of != Some(answer.len())
        });
        match bugs.messages_max.is_some_and(|most| self.messages >= most) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Bugs {
    /// Whether a receive of so many bytes is waited behind for more.
    pub(crate) fn expects_more_behind(&self, stream: &TcpStream, received: usize) -> bool {
        self.full_segment_means_more
            && SockRef::from(stream).tcp_mss().is_ok_and(|segment| segment as usize == received)
    }
}
