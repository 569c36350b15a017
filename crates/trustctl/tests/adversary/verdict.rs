//! What must hold for one connection, judged from outside: by what its client did and saw and when,
//! by the log, and by the naive model.
//!
//! The driver knows when it made a call but not when the server noticed. So the question is always
//! whether there is a moment at which the server can have been right.

use std::time::Duration;

use trust_sim::model::Model;

use super::history::History;
use super::play::Played;
use trust_testkit::event::Event;

/// A property that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// Which client's connection it is about, if any.
    pub(crate) client: Option<usize>,
    pub(crate) property: &'static str,
    pub(crate) detail: String,
}

/// How far an event's time can differ from the driver's because the log rounds to a millisecond,
/// with a margin, but without the machine's lag.
pub(crate) const CLOCK: Duration = Duration::from_millis(5);

/// How long a byte is in flight at most on a path without faults: a delayed acknowledgement (40 ms)
/// that a small buffer makes the sender wait for, twice.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// How long the server takes at most to do what is due or requested, on a machine without lag.
pub(crate) const PROMPT: Duration = Duration::from_millis(400);

/// What the log says about one connection.
pub(crate) struct Logged<'a> {
    pub(crate) accepted: Duration,
    pub(crate) close: &'a Event,
    pub(crate) closed: Duration,
    /// When its reason was decided: between the first and the second time.
    pub(crate) decided: (Duration, Duration),
    /// Between accept and close.
    pub(crate) events: Vec<&'a Event>,
}

/// One connection under judgement.
pub(crate) struct Case<'a> {
    pub(crate) played: &'a Played,
    client: usize,
    pub(crate) history: &'a History,
    pub(crate) logged: Logged<'a>,
    pub(crate) model: Model,
    /// How much the log and the driver can disagree about the time of day.
    pub(crate) early: Duration,
    /// How long after something the server may have written its line about it.
    pub(crate) told_late: Duration,
    /// How long a byte is in flight at most.
    pub(crate) under_way: Duration,
    /// How late the server may do what is due.
    pub(crate) late: Duration,
}

/// The event that reports a reason.
fn event_of(reason: &str) -> Option<&str> {
    match reason {
        "drain" | "second_signal" => None,
        "peer_fin" => Some("client_disconnect"),
        other => Some(other),
    }
}

impl<'a> Case<'a> {
    /// The connection of a client, if it was served.
    ///
    /// # Errors
    ///
    /// If the log does not report its reason.
    pub(crate) fn new(played: &'a Played, client: usize) -> Result<Option<Case<'a>>, Violation> {
        let history = &played.histories[client];
        let peer = history.address.to_string();
        let is_connect =
            |event: &&Event| event.name() == "client_connect" && event.text("peer") == peer;
        let Some(connect) = played.events.iter().find(is_connect) else { return Ok(None) };
        let conn = connect.count("conn");
        let is_of_it = |event: &&Event| event.has("conn") && event.count("conn") == conn;
        let events: Vec<&Event> = played.events.iter().filter(is_of_it).collect();
        let close = *events.last().expect("its client_connect is there");
        let closed = played.watch.of(close);
        let decided = match event_of(close.text("reason")) {
            Some(name) => {
                let told = events.iter().rev().find(|event| event.name() == name);
                let told = told.ok_or_else(|| Violation {
                    client: Some(client),
                    property: "the log has every reason before the close",
                    detail: format!("no {name}: {close:?}"),
                })?;
                let at = played.watch.of(told);
                (at, at)
            }
            None if close.text("reason") == "drain" => {
                let start = played.events.iter().find(|event| event.name() == "drain_start");
                (start.map_or(Duration::ZERO, |start| played.watch.of(start)), closed)
            }
            None => (closed, closed),
        };
        let accepted = played.watch.of(connect);
        let limits = &played.script.limits;
        Ok(Some(Case {
            played,
            client,
            history,
            logged: Logged { accepted, close, closed, decided, events },
            model: Model::of(&history.upload, limits.mode, limits.max_payload),
            early: CLOCK + played.drift,
            told_late: 2 * played.lag,
            under_way: UNDER_WAY + 2 * played.lag,
            late: PROMPT + 4 * played.lag,
        }))
    }

    pub(crate) fn reason(&self) -> &'a str {
        self.logged.close.text("reason")
    }

    /// Every property that does not hold.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut found = vec![];
        let mut require = |property, outcome: Result<(), String>| {
            if let Err(detail) = outcome {
                found.push(Violation { client: Some(self.client), property, detail });
            }
        };
        require("what a client reads is a prefix of what it is owed", self.check_prefix());
        require("the reason is one that can have been", self.check_reason());
        require("no deadline is early", self.check_not_early());
        require("nothing due is missed", self.check_not_overdue());
        require("whole frames are answered at once", self.check_prompt());
        require("after an orderly end the client has all that it is owed", self.check_end());
        require("the totals are right", self.check_totals());
        require("lingering is neither cut short nor endless", self.check_lingering());
        found
    }

    pub(crate) fn answer(&self, received: usize, fence: usize) -> usize {
        self.model.answer_len(received, fence)
    }

    pub(crate) fn count(&self, key: &str) -> usize {
        usize::try_from(self.logged.close.count(key)).expect("a size")
    }
}

/// `Err` of `detail` unless `holds`.
pub(crate) fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(detail()) }
}
