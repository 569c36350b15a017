//! A case: what is required, where that comes from, and how it is tried.

use trust_cli::framing::Framing;

use crate::exchange::learned::Learned;
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
    /// One of whose state it is known how it changes, and how it is read.
    Effect,
    /// One that speaks first.
    Greeting,
    /// One of which it is known how a connection is upgraded.
    Upgrade,
    /// One that expects a PROXY header.
    Preface,
}

impl Needs {
    /// Whether such a case is tried only where the user has told something: what changes the state,
    /// that the server speaks first, what upgrades a connection, or that it expects a PROXY header.
    pub const fn is_told(self) -> bool {
        matches!(self, Needs::Effect | Needs::Greeting | Needs::Upgrade | Needs::Preface)
    }

    /// Why such a case is skipped where that is missing.
    pub const fn lacking(self) -> &'static str {
        match self {
            Needs::Anything => "",
            Needs::Messages => "raw bytes have no messages",
            Needs::Length => "this framing has no length field",
            Needs::Process => "needs --pid or --command",
            Needs::Effect => "needs [effect] in an exchange file",
            Needs::Greeting => "needs a server that speaks first",
            Needs::Upgrade => "needs [upgrade] in an exchange file",
            Needs::Preface => "needs --send-proxy",
        }
    }
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
    ("effect/2", A_RST),
    ("timing/6", "Nagle's algorithm needs TCP"),
    ("timing/7", A_RST),
    ("resources/4", "CLOSE_WAIT needs TCP"),
];

/// Cases that need a server which sends back whatever it is sent, and why.
pub const ECHO_ALONE: &[(&str, &str)] = &[
    ("framing/2", LENGTHS),
    ("framing/3", LENGTHS),
    ("framing/4", LENGTHS),
    ("framing/5", LENGTHS),
    ("framing/9", CONTENTS),
    ("framing/10", CONTENTS),
    ("framing/11", CONTENTS),
    ("framing/12", LENGTHS),
    ("framing/13", LENGTHS),
    ("framing/15", CONTENTS),
    ("framing/19", LENGTHS),
    ("partial/3", LENGTHS),
    ("partial/9", LENGTHS),
    ("partial/11", LENGTHS),
    ("pipelining/4", LENGTHS),
    ("pipelining/5", LENGTHS),
    ("pipelining/6", NUMBERS),
    ("pipelining/10", LENGTHS),
    ("pipelining/11", NUMBERS),
    ("pipelining/12", NUMBERS),
    ("pipelining/13", NUMBERS),
    ("timing/8", "a server of another protocol need not end a client that reads nothing"),
];

/// Cases in which a connection has one exchange at most: those that cannot be repeated will do.
pub const ONE_EXCHANGE: &[&str] = &[
    "framing/1",
    "partial/4",
    "partial/6",
    "partial/8",
    "partial/12",
    "half-close/1",
    "half-close/6",
    "closing/3",
    "closing/9",
    "closing/10",
    "effect/1",
    "effect/2",
    "greeting/1",
    "greeting/2",
    "upgrade/1",
    "upgrade/2",
    "upgrade/3",
    "limits/1",
    "limits/4",
    "limits/5",
    "limits/7",
    "timing/3",
    "timing/9",
    "recovery/2",
    "recovery/4",
    "recovery/5",
    "recovery/8",
    "recovery/9",
    "resources/8",
];

/// Cases about one client, whose answers have to be long.
pub const LONG_ANSWER: &[&str] = &["limits/3", "limits/6"];

/// Cases about a message that declares more than is sent of it.
pub const DECLARING: &[&str] = &["limits/1", "limits/7", "resources/8"];

const A_RST: &str = "a RST needs TCP";
const LENGTHS: &str = "needs messages of chosen lengths";
const CONTENTS: &str = "needs a server that sends everything back";
const NUMBERS: &str = "a server of another protocol may limit the messages of a connection";

/// Whether the pattern matches the id: it is that id, or has `*` for any characters.
pub fn matches(pattern: &str, id: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == id };
    // The last part is at the end, and each of the others where it comes first: to look for another
    // place would take for ever in a pattern of many.
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let left = id.strip_prefix(first).and_then(|left| left.strip_suffix(last));
    let Some(mut left) = left else { return false };
    between.split('*').all(|part| match left.split_once(part) {
        Some((_, after)) => {
            left = after;
            true
        }
        None => false,
    })
}

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

    /// The number in the id.
    pub fn number(&self) -> usize {
        let number = self.id.split_once('/').map(|(_, number)| number.parse());
        number.and_then(Result::ok).expect("an id ends with a number")
    }

    /// Why it cannot be tried with that server, if so.
    pub fn misfit(&self, setup: &Setup, is_watched: bool) -> Option<&'static str> {
        let tcp_alone = TCP_ALONE.iter().find(|(id, _)| *id == self.id);
        if let Some((_, why)) = tcp_alone.filter(|_| !setup.is_tcp()) {
            return Some(why);
        }
        let is_of = |patterns: &[&str]| patterns.iter().any(|pattern| matches(pattern, self.id));
        if let Some(left_out) = setup.left_out.iter().find(|it| is_of(it.patterns)) {
            return Some(left_out.why);
        }
        let needs_several = matches!(self.isolation, Isolation::Several | Isolation::Crowd);
        if needs_several && setup.one_at_a_time {
            return Some("the server serves one client at a time");
        }
        if let Some(missing) = self.missing(setup, is_watched) {
            return Some(missing);
        }
        let learned = setup.exchanges.as_ref()?;
        if let Some((_, why)) = ECHO_ALONE.iter().find(|(id, _)| *id == self.id) {
            return Some(why);
        }
        let can_be_repeated = learned.exchanges.iter().any(|it| it.is_repeatable());
        match can_be_repeated || ONE_EXCHANGE.contains(&self.id) {
            true => None,
            false => Some("no exchange can be repeated on a connection"),
        }
    }

    /// What it needs and this server does not have, or nothing is known of.
    fn missing(&self, setup: &Setup, is_watched: bool) -> Option<&'static str> {
        let learned = setup.exchanges.as_ref();
        let is_there = match self.needs {
            Needs::Anything => true,
            Needs::Messages => learned.is_some() || setup.framing != Framing::Raw,
            Needs::Length => learned.is_some() || matches!(setup.framing, Framing::Length(_)),
            Needs::Process => is_watched,
            Needs::Effect => learned.is_some_and(|it| it.protocol.effect.is_some()),
            Needs::Greeting => learned.is_some_and(Learned::is_greeted),
            Needs::Upgrade => learned.is_some_and(|it| it.protocol.upgrade.is_some()),
            Needs::Preface => setup.preface.is_some(),
        };
        (!is_there).then_some(self.needs.lacking())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_of_many_stars_is_looked_at_once() {
        let pattern = format!("s{}iTi", "*".repeat(64));
        assert!(!matches(&pattern, "settle/12"));
        assert!(matches(&"*".repeat(64), "settle/12") && matches("s*/*2*", "settle/12"));
        assert!(!matches("ab*ba", "aba"), "each byte is in one part");
    }

    /// The same, as it is defined.
    fn naive(pattern: &[u8], id: &[u8]) -> bool {
        match pattern.split_first() {
            None => id.is_empty(),
            Some((b'*', rest)) => (0..=id.len()).any(|skipped| naive(rest, &id[skipped..])),
            Some((byte, rest)) => id.first() == Some(byte) && naive(rest, &id[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_star_stands_for_any_characters(pattern in "[ab*]{0,7}", id in "[ab]{0,7}") {
            prop_assert_eq!(matches(&pattern, &id), naive(pattern.as_bytes(), id.as_bytes()));
        }
    }
}
