//! Servers that are right as long as there is little of something: messages, receives, answers, bytes.

use std::net::TcpStream;

use socket2::SockRef;

/// What may go wrong when there is much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Of the answers to one receive so many are sent; the others are lost.
    AnswersMax(usize),
    /// More answers to one receive than this end the connection, as one `sendmsg` with more than IOV_MAX parts fails.
    PartsMax(usize),
    /// So many messages end the connection, in order.
    MessagesMax(u64),
    /// So many receives end the connection, in order.
    ReceivesMax(u64),
    /// The message of this number is not answered.
    LosesMessage(u64),
    /// From this message on the last byte of each answer is wrong.
    WrongFrom(u64),
    /// A message that needs more receives than this is refused.
    ReceivesInsideMax(u64),
    /// After so many receives inside a message the part of it that has arrived is forgotten.
    ForgetsAfterReceives(u64),
    /// A message of so many bytes, with its header, is not answered.
    LosesFramesOf(usize),
    /// A receive that brings the same message as the one before is not answered.
    DropsRepetitions,
    /// A receive of exactly one segment is taken for one that has more behind it.
    FullSegmentMeansMore,
}

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

/// Whether a receive of so many bytes is waited behind for more.
pub(crate) fn expects_more_behind(bug: Option<Bug>, stream: &TcpStream, received: usize) -> bool {
    bug == Some(Bug::FullSegmentMeansMore)
        && SockRef::from(stream).tcp_mss().is_ok_and(|segment| segment as usize == received)
}
