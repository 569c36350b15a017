//! A protocol, as an exchange file or a dialect describes it. Data alone.

use std::ops::Range;

use trust_wire::MessageEnd;

use super::pattern::Pattern;
use super::template::Template;

// Many fields: one for each table of an exchange file, and each key beside them.
/// A protocol: where its messages end, what a right server of it may do, and exchanges to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// For people.
    pub name: String,
    /// Where a request ends; `None` if that is not known.
    pub request_end: Option<MessageEnd>,
    /// Where the first request of a connection ends, if it is unlike the others (PostgreSQL).
    pub first_request_end: Option<MessageEnd>,
    /// Where an answer ends; `None`: after as many bytes as were learned.
    pub answer_end: Option<AnswerEnd>,
    /// The longest payload that the server takes, in bytes, where the message has a length field.
    pub max: Option<u64>,
    /// Bytes that say which request an answer is for.
    pub id: Option<IdPlaces>,
    /// What differs between two right answers to the same request.
    pub ignore: Vec<Pattern>,
    /// How messages begin that a right server sends unasked.
    pub unasked: Vec<Pattern>,
    /// What a right server may do instead of what a case wants.
    pub allow: Vec<Allowance>,
    /// Exchanges at the beginning of each connection, sent whole.
    pub before: Vec<Exchange>,
    /// The exchanges to try; at least one.
    pub exchanges: Vec<Exchange>,
    /// A request that has to be refused: the connection ends, perhaps after an answer.
    pub refused: Option<Exchange>,
    /// What changes the state of the server, and what shows it.
    pub effect: Option<Effect>,
    /// A request after which the connection speaks another protocol.
    pub upgrade: Option<Upgrade>,
    /// Whole exchanges after the start of the server, before its answers count.
    pub warm_up: u32,
}

impl Protocol {
    /// What may differ between two right answers, in any exchange, or come beside them.
    pub fn ignored(&self) -> Vec<Pattern> {
        let of_exchanges = self.exchanges.iter().flat_map(|exchange| &exchange.ignore);
        self.ignore.iter().chain(&self.unasked).chain(of_exchanges).cloned().collect()
    }

    /// A protocol of which only requests are known: an answer ends after as many bytes as were
    /// learned. The exchanges are named by their numbers, from 1.
    pub fn of_requests(name: &str, requests: Vec<Template>) -> Protocol {
        let exchange = |(send, number): (Template, usize)| Exchange {
            name: format!("exchange {number}"),
            send,
            want: None,
            several: None,
            ignore: vec![],
            once: false,
            closes: false,
            secret: false,
        };
        Protocol {
            name: name.to_owned(),
            request_end: None,
            first_request_end: None,
            answer_end: None,
            max: None,
            id: None,
            ignore: vec![],
            unasked: vec![],
            allow: vec![],
            before: vec![],
            exchanges: requests.into_iter().zip(1..).map(exchange).collect(),
            refused: None,
            effect: None,
            upgrade: None,
            warm_up: 0,
        }
    }
}

/// Where an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEnd {
    /// Where a message of it does.
    pub message: MessageEnd,
    /// How far an answer of several messages goes; `None`: it is one message.
    pub several: Option<Several>,
}

/// How far an answer of several messages goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Several {
    /// Until a message that begins with a match of this (`last`).
    Last(Pattern),
    /// On after messages that begin with a match of this (`more`).
    More(Pattern),
}

impl Several {
    /// The key in an exchange file, and the pattern.
    pub fn key(&self) -> (&'static str, &Pattern) {
        match self {
            Several::Last(pattern) => ("last", pattern),
            Several::More(pattern) => ("more", pattern),
        }
    }

    /// Whether another message follows this one.
    pub fn goes_on_after(&self, message: &[u8]) -> bool {
        match self {
            Several::Last(last) => !last.is_at_start(message),
            Several::More(more) => more.is_at_start(message),
        }
    }
}

/// Where the id of a request is, and where its answer has it; as many bytes in both. Counted from
/// the beginning of the message, and before its end in all exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPlaces {
    /// In the request.
    pub send: Range<usize>,
    /// In the answer.
    pub want: Range<usize>,
}

/// One exchange: what is sent, and what has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// For people; unique within the file.
    pub name: String,
    /// What is sent; empty for a server that speaks first.
    pub send: Template,
    /// What has to come back; `None`: what the server answers when it is asked.
    pub want: Option<Want>,
    /// How far its answer goes, if not as far as those of the protocol.
    pub several: Option<Several>,
    /// What differs between two right answers, beside what the protocol ignores.
    pub ignore: Vec<Pattern>,
    /// It can come once per connection.
    pub once: bool,
    /// The server ends the connection after the answer.
    pub closes: bool,
    /// Its bytes are not to be shown.
    pub secret: bool,
}

/// Two requests by which it is seen whether a request was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Each whole copy changes the state.
    pub change: Exchange,
    /// Its answer shows the state, and changes nothing.
    pub read: Exchange,
}

/// A request after which the connection speaks another protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// That protocol.
    pub to: UpgradeTo,
    /// What is sent.
    pub request: Exchange,
    /// The answer of a server that accepts, up to its end.
    pub accepted: Pattern,
    /// What is sent right after the request, in the same segment.
    pub after: Exchange,
    /// It is the first request of a connection, before [`Protocol::before`].
    pub is_first: bool,
}

/// What a connection is upgraded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeTo {
    /// TLS: what is sent in plain text is no longer answered.
    Tls,
    /// Something else, by its name.
    Other(String),
}

/// What has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// These bytes.
    Bytes(Template),
    /// The whole answer matches this.
    Pattern(Pattern),
}

/// What a right server of the protocol may do instead of what cases of a kind want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Of which cases.
    pub of: Allowed,
    /// What it may do: any of these, of which there is at least one.
    pub instead: Vec<Instead>,
    /// What that counts as.
    pub verdict: AllowedVerdict,
    /// Where that comes from, for the report. Never empty.
    pub why: String,
}

/// Which cases an allowance is about. The names are those of the keys in `[allow]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `half_close`: the client has sent its FIN and waits for answers.
    HalfClose,
    /// `truncated`: a request is cut off by the end of the connection.
    Truncated,
    /// `early`: answering before the request is whole.
    Early,
    /// `pipelining`: several requests without waiting.
    Pipelining,
    /// `pieces`: a request in several segments.
    Pieces,
    /// `order`: answers in another order than the requests.
    Order,
    /// `overtaken`: a request that has to be refused follows others.
    Overtaken,
    /// `goodbye`: what is said before the end, to a client that is silent, has finished, is one too
    /// many, or has asked often.
    Goodbye,
    /// `login`: asking for a login that the exchanges do not have, whatever was sent.
    Login,
}

impl Allowed {
    /// All of them.
    pub const ALL: [Allowed; 9] = [
        Allowed::HalfClose,
        Allowed::Truncated,
        Allowed::Early,
        Allowed::Pipelining,
        Allowed::Pieces,
        Allowed::Order,
        Allowed::Overtaken,
        Allowed::Goodbye,
        Allowed::Login,
    ];

    /// The key in `[allow]`.
    pub const fn key(self) -> &'static str {
        match self {
            Allowed::HalfClose => "half_close",
            Allowed::Truncated => "truncated",
            Allowed::Early => "early",
            Allowed::Pipelining => "pipelining",
            Allowed::Pieces => "pieces",
            Allowed::Order => "order",
            Allowed::Overtaken => "overtaken",
            Allowed::Goodbye => "goodbye",
            Allowed::Login => "login",
        }
    }
}

/// What a server may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Anything (`any = true`).
    Anything,
    /// End the connection without an answer (`close`).
    Close,
    /// Answer the first request alone (`first`).
    First,
    /// Not answer (`nothing`).
    Nothing,
    /// Give an answer that begins with a match of this.
    Pattern(Pattern),
}

/// What something that is allowed counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowedVerdict {
    /// `allowed`.
    #[default]
    Allowed,
    /// `warn`.
    Warn,
    /// `info`.
    Info,
}
