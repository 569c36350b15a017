//! What a socket is ready for, as far as is known.

use crate::connection::Probe;

/// What a connection's socket is ready for, by the events so far and by what calls have said since.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    pub(super) unread: Unread,
    pub(super) writable: bool,
    pub(super) asked: Asked,
}

/// What is left to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// Nothing.
    Nothing,
    /// Some bytes, until a receive brings less than was asked for.
    Bytes,
    /// More than bytes, until EAGAIN or the end: an end, an error or urgent data were announced, and a receive stops
    /// in front of those (`tcp(7)`), so that a short one does not show that nothing is left.
    ToTheEnd,
}

impl Default for Readiness {
    /// That of a new connection: it can send, and what can be received is announced.
    fn default() -> Readiness {
        Readiness { unread: Unread::Nothing, writable: true, asked: Asked::Nothing }
    }
}

impl Readiness {
    /// An event has announced this. Only what this event says itself: one that says "writable" must not have the
    /// socket read, and asked about again, for ever.
    pub fn note(&mut self, unread: Unread, writable: bool) {
        self.unread = self.unread.max(unread);
        self.writable |= writable;
    }

    /// The socket was looked at: bytes that it has need no event any more. A deadline is not judged over unread bytes, so
    /// without this it would be due again and again until they are announced.
    pub fn note_probe(&mut self, probe: &Probe) {
        if probe.unread > 0 {
            self.note(Unread::Bytes, false);
        }
    }

    /// Whether the kernel is to be asked after a pause ([`Question::Later`]).
    pub fn is_to_be_asked(&self) -> bool {
        self.asked == Asked::Later
    }

    /// That pause is over, and the kernel is asked now.
    pub fn ask_again(&mut self) {
        self.asked.ask_again();
    }
}

/// What the kernel was asked about a socket since a call last succeeded.
///
/// Edge-triggered readiness is reported once. If a call then says EAGAIN, either that report is used up and another one
/// will come, or it was lost, or the kernel reports what it cannot keep: with the memory for TCP used up a socket is
/// writable and takes nothing. So the kernel is asked once, at once. If it says "ready" and EAGAIN comes again, the next
/// question waits for a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    #[default]
    Nothing,
    /// Whether it is ready after all.
    Once,
    /// That is asked again after a pause, whatever happens meanwhile.
    Later,
}

/// When to ask the kernel whether a socket is ready after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// At once.
    Now,
    /// After a pause, once for all that happens meanwhile. The caller says then that it is over.
    Later,
}

impl Asked {
    /// A call did what it was to do.
    pub fn handle_success(&mut self) {
        if *self == Asked::Once {
            *self = Asked::Nothing;
        }
    }

    /// A call has said EAGAIN.
    pub fn handle_would_block(&mut self) -> Option<Question> {
        match self {
            Asked::Nothing => {
                *self = Asked::Once;
                Some(Question::Now)
            }
            Asked::Once => {
                *self = Asked::Later;
                Some(Question::Later)
            }
            Asked::Later => None,
        }
    }

    /// The pause is over, and the kernel is asked now.
    pub fn ask_again(&mut self) {
        *self = Asked::Once;
    }
}
