//! Rules: which faults happen to which connections, where, and in which direction.
//!
//! A rule has one canonical text, which is what events show: parsing it gives the same rule.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::random::{GAMMA, mix};
use trust_cli::text_file::read_list;
use trust_wire::relay::{FaultAction, FaultPlace, FrameFormat, FramePart, RelayFault, RelaySide};

/// Longest text that `match` looks for, in bytes.
pub const MATCH_MAX: usize = 4096;

/// A fault, and where it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// To which connections.
    pub connections: Selector,
    /// What happens.
    pub action: RuleAction,
    /// Where.
    pub place: RulePlace,
    /// `None`: in both directions.
    pub direction: Option<Direction>,
}

/// Connections by their numbers, which count from 1 in the order of accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All of them.
    All,
    /// From the first to the last.
    Range(u64, u64),
    /// Each whose number is a multiple of it.
    Every(u64),
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// [`FaultAction::Reset`]
    Reset,
    /// [`FaultAction::Finish`]
    FinEarly,
    /// [`FaultAction::Close`]
    Close,
    /// [`FaultAction::Stall`]
    Stall(Duration),
    /// [`FaultAction::Hold`]
    Hold,
    /// [`FaultAction::BlackHole`]
    BlackHole,
    /// [`FaultAction::Drop`]
    Drop(u64),
    /// Inverts 1 to 8 bits of the next byte; the seed says which.
    Flip(u32),
    /// [`FaultAction::Xor`]
    Xor(Vec<u8>),
    /// [`FaultAction::Set`]
    Set(Vec<u8>),
    /// [`FaultAction::Insert`]
    Insert(Vec<u8>),
    /// [`FaultAction::SwallowFin`]
    SwallowFin,
    /// [`FaultAction::SetLength`]
    SetLength(u64),
    /// The client is accepted, and reset.
    AcceptReset,
    /// The client is accepted, and nothing is received from it.
    AcceptSilent,
}

/// Where it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulePlace {
    /// When a client is accepted, before its upstream is looked for.
    Connect,
    /// After this many bytes.
    Byte(u64),
    /// After the first occurrence of these bytes.
    Match(Vec<u8>),
    /// In the frame of that number, from 1.
    Frame(u64, FramePart),
    /// After the last byte before FIN.
    Eof,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    Up,
    /// From the upstream to the client.
    Down,
}

impl Direction {
    /// The side that it leads to.
    pub const fn receiver(self) -> RelaySide {
        match self {
            Direction::Up => RelaySide::Upstream,
            Direction::Down => RelaySide::Client,
        }
    }

    /// The direction that leads to that side.
    pub const fn towards(side: RelaySide) -> Direction {
        match side {
            RelaySide::Upstream => Direction::Up,
            RelaySide::Client => Direction::Down,
        }
    }

    /// Its word in rules and events.
    pub const fn word(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

impl RuleAction {
    /// Whether it needs no place, and then holds from the first byte on.
    const fn may_hold_from_the_start(&self) -> bool {
        matches!(self, RuleAction::Hold | RuleAction::BlackHole | RuleAction::SwallowFin)
    }
}

impl Selector {
    /// Whether it is for the connection of that number.
    pub const fn has(self, connection: u64) -> bool {
        match self {
            Selector::All => true,
            Selector::Range(first, last) => first <= connection && connection <= last,
            Selector::Every(step) => connection.is_multiple_of(step),
        }
    }
}

impl Rule {
    /// Whether it sends RST to a side that may have a unix socket, which has none.
    pub const fn resets(&self) -> bool {
        matches!(self.action, RuleAction::Reset | RuleAction::AcceptReset)
    }

    /// What it needs to know about frames that this format does not say, in words.
    pub fn lacks(&self, format: Option<FrameFormat>) -> Option<&'static str> {
        let needs_length = match &self.place {
            RulePlace::Frame(_, FramePart::Payload | FramePart::BeforeEnd(_)) => true,
            RulePlace::Frame(..) => matches!(self.action, RuleAction::SetLength(_)),
            _ => return None,
        };
        match format {
            None => Some("frames"),
            Some(FrameFormat::Line) if needs_length => Some("a length field"),
            Some(_) => None,
        }
    }

    /// What it does to a direction of a connection that it is for, as the rule of this number. The
    /// choice of bits depends on the seed, the connection, the direction and the rule alone.
    fn fault(
        &self,
        rule: usize,
        direction: Direction,
        connection: u64,
        seed: u64,
    ) -> Option<RelayFault> {
        let place = match &self.place {
            RulePlace::Connect => return None,
            RulePlace::Byte(at) => FaultPlace::Byte(*at),
            RulePlace::Match(bytes) => FaultPlace::Match(bytes.as_slice().into()),
            RulePlace::Frame(number, part) => FaultPlace::Frame { number: *number, part: *part },
            RulePlace::Eof => FaultPlace::End,
        };
        let boxed = |bytes: &[u8]| bytes.into();
        let action = match &self.action {
            RuleAction::Reset => FaultAction::Reset,
            RuleAction::FinEarly => FaultAction::Finish,
            RuleAction::Close => FaultAction::Close,
            RuleAction::Stall(time) => FaultAction::Stall(*time),
            RuleAction::Hold => FaultAction::Hold,
            RuleAction::BlackHole => FaultAction::BlackHole,
            RuleAction::Drop(count) => FaultAction::Drop(*count),
            RuleAction::Flip(count) => {
                let coordinates = [connection, direction as u64, rule as u64];
                let random = coordinates
                    .iter()
                    .fold(seed, |state, it| mix(state.wrapping_add(GAMMA).wrapping_add(*it)));
                FaultAction::Xor(Box::new([random_bits(*count, random)]))
            }
            RuleAction::Xor(bytes) => FaultAction::Xor(boxed(bytes)),
            RuleAction::Set(bytes) => FaultAction::Set(boxed(bytes)),
            RuleAction::Insert(bytes) => FaultAction::Insert(boxed(bytes)),
            RuleAction::SwallowFin => FaultAction::SwallowFin,
            RuleAction::SetLength(value) => FaultAction::SetLength(*value),
            RuleAction::AcceptReset | RuleAction::AcceptSilent => return None,
        };
        Some(RelayFault { rule, place, action })
    }
}

/// A byte with this many bits set.
fn random_bits(count: u32, random: u64) -> u8 {
    let mut bits = 0_u8;
    let mut random = random;
    while bits.count_ones() < count.min(8) {
        bits |= 1 << (random % 8);
        random = mix(random.wrapping_add(GAMMA));
    }
    bits
}

/// All rules of a run, and which of them have happened.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    has_fired: Vec<bool>,
    seed: u64,
}

impl Rules {
    /// These rules, of which none has happened.
    pub fn new(rules: Vec<Rule>, seed: u64) -> Rules {
        Rules { has_fired: vec![false; rules.len()], rules, seed }
    }

    /// The seed of what rules leave open.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "no one asks")]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// What happens to a connection when it is accepted: the first rule that says so.
    pub fn at_connect(&self, connection: u64) -> Option<(usize, &RuleAction)> {
        let mut rules = self.rules.iter().enumerate();
        let found = rules
            .find(|(_, rule)| rule.place == RulePlace::Connect && rule.connections.has(connection));
        found.map(|(number, rule)| (number, &rule.action))
    }

    /// What happens to a direction of a connection.
    pub fn faults(&self, connection: u64, direction: Direction) -> Vec<RelayFault> {
        let is_for = |rule: &Rule| {
            rule.connections.has(connection)
                && rule.direction.is_none_or(|other| other == direction)
        };
        let numbered = self.rules.iter().enumerate().filter(|(_, rule)| is_for(rule));
        numbered
            .filter_map(|(number, rule)| rule.fault(number, direction, connection, self.seed))
            .collect()
    }

    /// Records that a rule has happened; its text.
    pub fn note_fired(&mut self, number: usize) -> String {
        self.has_fired[number] = true;
        self.rules[number].to_string()
    }

    /// The rules that have not happened.
    pub fn unfired(&self) -> impl Iterator<Item = &Rule> {
        let rules = self.rules.iter().zip(&self.has_fired);
        rules.filter(|(_, has_fired)| !**has_fired).map(|(rule, _)| rule)
    }
}

/// The rules of a file.
///
/// # Errors
///
/// 74 if it cannot be read, 65 with the first wrong line.
pub fn read_file(path: &Path) -> Result<Vec<Rule>, Failure> {
    read_list(path, |place, line| {
        Rule::parse(line).map_err(|error| error.failure(ExitCode::DataError, place, line))
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connections {
            Selector::All => {}
            Selector::Range(first, last) if first == last => write!(f, "conn {first}: ")?,
            Selector::Range(first, last) => write!(f, "conn {first}..{last}: ")?,
            Selector::Every(step) => write!(f, "conn every {step}: ")?,
        }
        self.action.fmt(f)?;
        match &self.place {
            RulePlace::Byte(0) if self.action.may_hold_from_the_start() => {}
            RulePlace::Connect => f.write_str(" @ connect")?,
            RulePlace::Byte(at) => write!(f, " @ byte {at}")?,
            RulePlace::Match(bytes) => write!(f, " @ match {}", ShownBytes(bytes))?,
            RulePlace::Frame(number, part) => {
                write!(f, " @ frame {number}")?;
                match part {
                    FramePart::Byte(0) => {}
                    FramePart::Byte(at) => write!(f, " byte {at}")?,
                    FramePart::Payload => f.write_str(" payload")?,
                    FramePart::BeforeEnd(count) => write!(f, " -{count}")?,
                    FramePart::End => f.write_str(" end")?,
                }
            }
            RulePlace::Eof => f.write_str(" @ eof")?,
        }
        match self.direction {
            None => Ok(()),
            Some(direction) => write!(f, " {}", direction.word()),
        }
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleAction::Reset => f.write_str("rst"),
            RuleAction::FinEarly => f.write_str("fin early"),
            RuleAction::Close => f.write_str("close"),
            RuleAction::Stall(time) => write!(f, "stall {}", ShownTime(*time)),
            RuleAction::Hold => f.write_str("hold"),
            RuleAction::BlackHole => f.write_str("black-hole"),
            RuleAction::Drop(1) => f.write_str("drop 1 byte"),
            RuleAction::Drop(count) => write!(f, "drop {count} bytes"),
            RuleAction::Flip(1) => f.write_str("flip 1 bit"),
            RuleAction::Flip(count) => write!(f, "flip {count} bits"),
            RuleAction::Xor(bytes) => write!(f, "xor {}", Hex(bytes)),
            RuleAction::Set(bytes) => write!(f, "set {}", ShownBytes(bytes)),
            RuleAction::Insert(bytes) => write!(f, "insert {}", ShownBytes(bytes)),
            RuleAction::SwallowFin => f.write_str("swallow fin"),
            RuleAction::SetLength(value) => write!(f, "length = {value}"),
            RuleAction::AcceptReset => f.write_str("accept-rst"),
            RuleAction::AcceptSilent => f.write_str("accept-silent"),
        }
    }
}

/// Bytes as a rule writes them: as text if all of them are printable, or in hexadecimal.
struct ShownBytes<'a>(&'a [u8]);

impl fmt::Display for ShownBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.iter().all(|byte| (0x20..0x7f).contains(byte)) {
            return Hex(self.0).fmt(f);
        }
        f.write_char('"')?;
        for byte in self.0 {
            if matches!(byte, b'"' | b'\\') {
                f.write_char('\\')?;
            }
            f.write_char(char::from(*byte))?;
        }
        f.write_char('"')
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A time in the largest unit in which it is whole.
struct ShownTime(Duration);

impl fmt::Display for ShownTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us"), (1, "ns")];
        let fits = |(unit, _): &(u128, &str)| nanoseconds.is_multiple_of(*unit);
        let (unit, name) = units.into_iter().find(fits).expect("every time is whole in ns");
        write!(f, "{}{name}", nanoseconds / unit)
    }
}
