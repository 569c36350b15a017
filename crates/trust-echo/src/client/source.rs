//! Where the messages of a conversation come from.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use trust_cli::echo::conversation::{Conversation, Framing, Window};

use crate::client::input::{Cut, Input, LineTooLong};

/// Bytes that are read from standard input at once.
const READ_MAX: usize = 128 * 1024;

/// Bytes without an echo that may be on their way: enough to keep client, network and server busy
/// at the same time (less costs throughput, more only memory).
const WINDOW_BYTES: usize = 1024 * 1024;

/// What the payload of a generated frame repeats: printable, and no newline.
const PATTERN: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

/// What will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendPlan {
    /// These messages, a frame each; with an interval, again and again, one at a time.
    Messages(Vec<PlannedMessage>, Option<Duration>),
    /// Standard input, cut into frames.
    Frames(Cut),
    /// Standard input as it is.
    Raw,
}

/// A message that is known from the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedMessage {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of a fixed printable pattern.
    Generated(u32),
}

/// Standard input, or the messages, and how far they were sent.
#[derive(Debug)]
pub struct Source<'fd> {
    plan: SendPlan,
    /// The message that is sent next.
    next: usize,
    /// Payload bytes of a generated message that were sent.
    generated: usize,
    /// When the round began in which the messages are being sent, and the message before the next.
    round: Instant,
    begun: Instant,
    standard: BorrowedFd<'fd>,
    input: Input,
    /// Whether standard input had a byte.
    had_input: bool,
    buffer: Vec<u8>,
}

impl<'fd> Source<'fd> {
    /// Messages of which none was sent; `standard` is standard input.
    pub fn new(plan: SendPlan, standard: BorrowedFd<'fd>) -> Source<'fd> {
        let (cut, buffer_len) = match plan {
            SendPlan::Messages(..) => (Cut::Lines { max: 0 }, 0),
            SendPlan::Frames(cut) => (cut, READ_MAX),
            SendPlan::Raw => (Cut::Lines { max: 0 }, READ_MAX),
        };
        let now = Instant::now();
        Source {
            plan,
            next: 0,
            generated: 0,
            round: now,
            begun: now,
            standard,
            input: Input::new(cut),
            had_input: false,
            buffer: vec![0; buffer_len],
        }
    }

    /// The conversation that fits the plan.
    pub fn conversation(&self) -> Conversation {
        let (framing, frames) = match self.plan {
            // One at a time, so that a round trip does not contain the wait for another.
            SendPlan::Messages(_, Some(_)) => (Framing::Framed, 1),
            SendPlan::Messages(_, None) | SendPlan::Frames(_) => (Framing::Framed, u64::MAX),
            SendPlan::Raw => (Framing::Raw, u64::MAX),
        };
        Conversation::new(framing, Window { bytes: WINDOW_BYTES, frames })
    }

    /// Whether an echo is followed by a newline when it is printed.
    pub fn prints_lines(&self) -> bool {
        match self.plan {
            SendPlan::Messages(..) | SendPlan::Frames(Cut::Lines { .. }) => true,
            SendPlan::Frames(Cut::Chunks { .. }) | SendPlan::Raw => false,
        }
    }

    /// Whether bytes go both ways as they are.
    pub fn is_raw(&self) -> bool {
        self.plan == SendPlan::Raw
    }

    /// Whether round trips are of interest.
    pub fn repeats(&self) -> bool {
        matches!(self.plan, SendPlan::Messages(_, Some(_)))
    }

    /// When the message that was sent last was begun.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Moves as many messages into the conversation as it wants.
    ///
    /// # Errors
    ///
    /// A line of standard input is too long for a frame.
    pub fn fill(&mut self, conversation: &mut Conversation) -> Result<(), LineTooLong> {
        match &self.plan {
            SendPlan::Raw => {}
            SendPlan::Frames(_) => {
                while conversation.wants_frame() {
                    let Some(message) = self.input.poll_message()? else { break };
                    conversation.push_message(message);
                }
            }
            SendPlan::Messages(messages, interval) => {
                if let Some(interval) = interval
                    && self.next == messages.len()
                    && conversation.is_settled()
                    && self.round.elapsed() >= *interval
                {
                    self.next = 0;
                    self.round = Instant::now();
                }
                self.generated += push_generated(conversation, self.generated);
                while conversation.wants_frame() && self.next < messages.len() {
                    self.begun = Instant::now();
                    match &messages[self.next] {
                        PlannedMessage::Bytes(bytes) => conversation.push_message(bytes),
                        PlannedMessage::Generated(len) => {
                            conversation.start_frame(*len);
                            self.generated = push_generated(conversation, 0);
                        }
                    }
                    self.next += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether a generated message goes on although nothing is waiting to be sent: it needs no
    /// input to wait for.
    pub fn has_more_to_generate(&self, conversation: &Conversation) -> bool {
        let is_generated = matches!(self.plan, SendPlan::Messages(..));
        is_generated && conversation.unsent().is_empty() && conversation.room() > 0
    }

    /// What to poll for; `None` if standard input is not wanted, or not yet.
    pub fn interest(&self, conversation: &Conversation) -> Option<(BorrowedFd<'fd>, PollFlags)> {
        let is_wanted = match self.plan {
            SendPlan::Messages(..) => false,
            SendPlan::Frames(_) => conversation.wants_frame() && self.input.wants_bytes(),
            SendPlan::Raw => conversation.room() > 0 && !self.input.is_ended(),
        };
        is_wanted.then_some((self.standard, PollFlags::IN))
    }

    /// When [`Source::fill`] has something to do again without any input.
    pub fn due(&self, conversation: &Conversation) -> Option<Instant> {
        match &self.plan {
            SendPlan::Messages(messages, Some(interval))
                if self.next == messages.len() && conversation.is_settled() =>
            {
                Some(self.round + *interval)
            }
            _ => None,
        }
    }

    /// Reads once from standard input, which poll(2) called readable.
    ///
    /// # Errors
    ///
    /// What read(2) reports; nothing more is read then.
    pub fn read(&mut self, conversation: &mut Conversation) -> io::Result<()> {
        let max = match self.plan {
            SendPlan::Raw => conversation.room().min(READ_MAX),
            _ => READ_MAX,
        };
        match rustix::io::read(self.standard, &mut self.buffer[..max]) {
            Ok(0) => self.input.handle_end(),
            Ok(count) => self.handle_read(count, conversation),
            // It is shared with other processes: one of them took it, or made it non-blocking.
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => {
                self.input.handle_end();
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn handle_read(&mut self, count: usize, conversation: &mut Conversation) {
        self.had_input = true;
        match self.plan {
            SendPlan::Raw => conversation.push(&self.buffer[..count]),
            _ => self.input.handle_read(&self.buffer[..count]),
        }
    }

    /// Whether standard input was to be sent, and ended without a byte.
    pub fn is_empty(&self) -> bool {
        self.input.is_ended() && !self.had_input
    }

    /// Whether nothing more will be sent, even if that has to be found out: standard input may have
    /// ended without having been read to its end.
    pub fn find_out_if_done(&mut self, conversation: &mut Conversation) -> bool {
        if let Some((descriptor, flags)) = self.interest(conversation) {
            let mut polled = [PollFd::from_borrowed_fd(descriptor, flags)];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            if rustix::event::poll(&mut polled, Some(&at_once)) == Ok(1) {
                // An error ends the input; the connection's end is what the user gets to know.
                let _ = self.read(conversation);
            }
        }
        self.is_done()
    }

    /// Whether nothing more will be sent than what the conversation has.
    pub fn is_done(&self) -> bool {
        match &self.plan {
            SendPlan::Messages(_, Some(_)) => false,
            SendPlan::Messages(messages, None) => self.next == messages.len(),
            SendPlan::Frames(_) => self.input.is_done(),
            SendPlan::Raw => self.input.is_ended(),
        }
    }
}

/// Continues a generated payload of which `begin` bytes were pushed; how many it was now.
fn push_generated(conversation: &mut Conversation, begin: usize) -> usize {
    let mut end = begin;
    while conversation.room() > 0 {
        let piece = &PATTERN[end % PATTERN.len()..];
        let piece = &piece[..piece.len().min(conversation.room())];
        conversation.push(piece);
        end += piece.len();
    }
    end - begin
}
