//! A case: what is required, where that comes from, and how it is tried.

use trust_cli::framing::Framing;

use crate::setup::Setup;
use crate::trial::CaseTrial;
use crate::verdict::Judged;

/// One requirement and how it is tried.
#[derive(Debug)]
pub struct Case {
    /// Group and number, which never change: `framing/3`.
    pub id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What a right server does.
    pub requirement: &'static str,
    /// Where the requirement comes from: an RFC's section, a man page, a document of this project.
    pub source: &'static str,
    /// The bug that it exists to catch.
    pub bug: &'static str,
    /// Which servers it is for.
    pub needs: Needs,
    /// How it goes together with others.
    pub isolation: Isolation,
    /// The conversation and the judgement.
    pub run: fn(&mut CaseTrial<'_>) -> Judged,
}

/// Which servers a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Every echo server.
    Anything,
    /// One that knows messages: each has a length in front or a newline at its end.
    Messages,
    /// One whose messages have a length in front.
    Length,
    /// One whose process can be watched (`--pid`, `--command`).
    Process,
}

/// How a case goes together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// It may run beside others.
    Beside,
    /// It needs two clients or more to be served at the same time.
    Several,
    /// It opens many connections that must be served at the same time, perhaps more than the server
    /// can hold: nothing runs beside it.
    Crowd,
    /// It floods the server, or measures it: nothing runs beside it.
    Alone,
}

/// Cases about something that TCP has and a unix socket does not, and why they are skipped there.
pub const TCP_ALONE: &[(&str, &str)] = &[
    ("framing/19", "a segment needs TCP"),
    ("closing/5", A_RST),
    ("closing/6", A_RST),
    ("closing/7", A_RST),
    ("closing/8", A_RST),
    ("closing/9", A_RST),
    ("closing/12", A_RST),
    ("timing/6", "Nagle's algorithm needs TCP"),
    ("timing/7", A_RST),
    ("resources/4", "CLOSE_WAIT needs TCP"),
];

const A_RST: &str = "a RST needs TCP";

impl Isolation {
    /// Whether nothing may run beside it.
    pub const fn is_alone(self) -> bool {
        matches!(self, Isolation::Crowd | Isolation::Alone)
    }
}

impl Case {
    /// The part of the id before the number.
    pub fn group(&self) -> &'static str {
        self.id.split_once('/').map_or(self.id, |(group, _)| group)
    }

    /// Why it cannot be tried with that server, if so.
    pub fn misfit(&self, setup: &Setup, is_watched: bool) -> Option<&'static str> {
        let tcp_alone = TCP_ALONE.iter().find(|(id, _)| *id == self.id);
        if let Some((_, why)) = tcp_alone.filter(|_| !setup.is_tcp()) {
            return Some(why);
        }
        let needs_several = matches!(self.isolation, Isolation::Several | Isolation::Crowd);
        if needs_several && setup.one_at_a_time {
            return Some("the server serves one client at a time");
        }
        match (self.needs, &setup.framing) {
            (Needs::Process, _) if !is_watched => Some("needs --pid or --command"),
            (Needs::Anything | Needs::Process, _)
            | (Needs::Messages, Framing::Length(_) | Framing::Line)
            | (Needs::Length, Framing::Length(_)) => None,
            (Needs::Messages, Framing::Raw) => Some("raw bytes have no messages"),
            (Needs::Length, Framing::Raw | Framing::Line) => {
                Some("this framing has no length field")
            }
        }
    }
}
