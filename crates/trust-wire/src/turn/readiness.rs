//! What a socket is ready for, as far as is known.

use crate::connection::Probe;

/// What a connection's socket is ready for, judging by the events and the results of calls so far.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    pub(crate) unread: Unread,
    pub(crate) writable: bool,
    pub(crate) asked: Asked,
}

/// What is left to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// Nothing.
    Nothing,
    /// Some bytes, until a receive returns fewer than were asked for.
    Bytes,
    /// Read until EAGAIN or the end: an end, an error or urgent data were announced. A receive
    /// stops in front of those (`tcp(7)`), so a short one does not prove that nothing is left.
    ToTheEnd,
}

impl Default for Readiness {
    /// That of a new connection: it can send; an event will announce what can be received.
    fn default() -> Readiness {
        Readiness { unread: Unread::Nothing, writable: true, asked: Asked::Nothing }
    }
}

impl Readiness {
    /// Records an event. It adds only what this event itself reports: one that says "writable" must
    /// not cause reads and further questions to the kernel forever.
    pub fn note(&mut self, unread: Unread, writable: bool) {
        self.unread = self.unread.max(unread);
        self.writable |= writable;
    }

    /// Records a probe of the socket: bytes that it has unread need no event. Deadlines are not
    /// judged while bytes are unread, so without this the deadline would keep firing until they are
    /// announced.
    pub fn note_probe(&mut self, probe: &Probe) {
        if probe.unread > 0 {
            self.note(Unread::Bytes, false);
        }
    }

    /// Whether to ask the kernel after a pause ([`Question::Later`]).
    pub fn is_to_be_asked(&self) -> bool {
        self.asked == Asked::Later
    }

    /// Records that this pause is over and the kernel is being asked now.
    pub fn ask_again(&mut self) {
        self.asked.ask_again();
    }
}

/// What the kernel was asked about a socket since a call last succeeded.
///
/// Edge-triggered readiness is reported once. If a call then returns EAGAIN, there are three cases:
/// the report is used up and another will come; it was lost; or the kernel reports more than it can
/// do (when TCP memory is exhausted, a socket is writable and takes nothing). So the kernel is
/// asked once, immediately. If it says "ready" and EAGAIN comes again, the next question waits for
/// a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    #[default]
    Nothing,
    /// Whether it is ready after all.
    Once,
    /// The same, but after a pause, whatever happens in the meantime.
    Later,
}

/// When to ask the kernel whether a socket is ready after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Immediately.
    Now,
    /// After a pause, once for everything that happens meanwhile. The caller reports when it is
    /// over.
    Later,
}

impl Asked {
    /// Records a call that succeeded.
    pub fn handle_success(&mut self) {
        if *self == Asked::Once {
            *self = Asked::Nothing;
        }
    }

    /// Records a call that returned EAGAIN.
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

    /// Records that the pause is over and the kernel is being asked now.
    pub fn ask_again(&mut self) {
        *self = Asked::Once;
    }
}
