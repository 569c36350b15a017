//! Servers that are right while amounts are small: messages, receives, answers, bytes.

use std::net::TcpStream;

use socket2::SockRef;

/// What may go wrong with large amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Only this many of the answers to one receive are sent; the others are lost.
    AnswersMax(usize),
    /// More answers to one receive than this end the connection, as one `sendmsg` with more than
    /// IOV_MAX parts fails.
    PartsMax(usize),
    /// After this many messages the connection ends, with an orderly close.
    MessagesMax(u64),
    /// After this many receives the connection ends, with an orderly close.
    ReceivesMax(u64),
    /// The message with this number is not answered.
    LosesMessage(u64),
    /// From this message on, the last byte of each answer is wrong.
    WrongFrom(u64),
    /// A message that needs more receives than this is refused.
    ReceivesInsideMax(u64),
    /// After this many receives inside a message, the received part of it is forgotten.
    ForgetsAfterReceives(u64),
    /// A message of this many bytes, including its header, is not answered.
    LosesFramesOf(usize),
    /// A receive that returns the same message as the one before is not answered.
    DropsRepetitions,
    /// A receive of exactly one segment is taken as a sign that more follows.
    FullSegmentMeansMore,
}

/// Running totals of one connection.
#[derive(Debug, Default)]
pub(crate) struct Count {
    messages: u64,
    receives: u64,
    /// Receives since the last message was completed.
    inside: u64,
    /// The answers to the previous receive.
    last: Vec<Vec<u8>>,
}

/// What happens after a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    /// The received part of a message is dropped.
    Forget,
    /// The connection ends.
    End,
}

impl Count {
    /// Counts a receive and its answers, and spoils the answers.
    pub(crate) fn handle(&mut self, bug: Option<Bug>, answers: &mut Vec<Vec<u8>>) -> Next {
        let before = self.messages;
        self.receives += 1;
        self.messages += answers.len() as u64;
        self.inside = if answers.is_empty() { self.inside + 1 } else { 0 };
        match bug {
            Some(Bug::AnswersMax(most)) => answers.truncate(most),
            Some(Bug::PartsMax(most)) if answers.len() > most => {
                answers.clear();
                return Next::End;
            }
            Some(Bug::MessagesMax(most)) => {
                answers.truncate(most.saturating_sub(before) as usize);
                if self.messages >= most {
                    return Next::End;
                }
            }
            Some(Bug::ReceivesMax(most)) if self.receives >= most => return Next::End,
            Some(Bug::ReceivesInsideMax(most)) if self.inside > most => return Next::End,
            Some(Bug::ForgetsAfterReceives(most)) if self.inside >= most => return Next::Forget,
            Some(Bug::LosesMessage(number)) if (before + 1..=self.messages).contains(&number) => {
                answers.remove((number - before - 1) as usize);
            }
            Some(Bug::LosesFramesOf(len)) => answers.retain(|answer| answer.len() != len),
            Some(Bug::WrongFrom(from)) => {
                let numbered = (before + 1..).zip(answers.iter_mut());
                for (_, answer) in numbered.filter(|(number, _)| *number >= from) {
                    answer.last_mut().into_iter().for_each(|last| *last ^= 1);
                }
            }
            Some(Bug::DropsRepetitions) => {
                let last = std::mem::replace(&mut self.last, answers.clone());
                if answers.len() == 1 && last == *answers {
                    answers.clear();
                }
            }
            _ => {}
        }
        Next::GoOn
    }
}

/// Whether the server waits for more after a receive of this many bytes.
pub(crate) fn expects_more_behind(bug: Option<Bug>, stream: &TcpStream, received: usize) -> bool {
    bug == Some(Bug::FullSegmentMeansMore)
        && SockRef::from(stream).tcp_mss().is_ok_and(|segment| segment as usize == received)
}
