//! Rules: which faults happen to which connections, where, and in which direction.
//!
//! A rule has one canonical text, which is what events show: parsing it gives the same rule.

mod parse;
mod rule_set;
mod shown;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::text_file::read_list;
use trust_wire::relay::{
    Chance, FaultAction, FaultPlace, FiredFault, FrameFormat, FramePart, RelayFault, RelaySide,
    SharedRate, draw, flip_mask,
};

use crate::frames::FrameFormats;

pub use rule_set::{KeptRule, RuleOwner, Rules};

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
    /// At how many of these places, the first ones; `None`: at all, or at the one that there is.
    pub times: Option<u64>,
    /// Where it ends, in the same direction.
    pub until: Option<RulePlace>,
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
    /// This share of them, in millionths; the seed says which.
    Share(u32),
    /// Those that come from an address with these first bits.
    From(IpAddr, u8),
}

/// A connection, as far as rules can tell it from others.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// Its number, from 1.
    pub connection: u64,
    /// Where it comes from; `None` for a unix socket.
    pub address: Option<IpAddr>,
    /// To which pair of a place to listen and an upstream it has come.
    pub pair: usize,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// [`FaultAction::Reset`]
    Reset,
    /// [`FaultAction::ResetSides`]
    ResetSides([bool; 2]),
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
    /// [`FaultAction::DropFrames`]
    DropFrames(u64),
    /// [`FaultAction::TruncateFrame`]
    TruncateFrame(u64),
    /// [`FaultAction::Flip`]
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
    /// [`FaultAction::AddLength`]
    AddLength(i64),
    /// [`FaultAction::DuplicateFrame`]
    DuplicateFrame,
    /// [`FaultAction::SwapFrame`]
    SwapFrame,
    /// [`FaultAction::Delay`]: the time, and how much more or less.
    Delay(Duration, Duration),
    /// [`FaultAction::Rate`]
    Rate(u64),
    /// [`FaultAction::SharedRate`]
    SharedRate(u64),
    /// [`FaultAction::Dribble`]
    Dribble(u64, Duration),
    /// [`FaultAction::Split`]
    Split(u64, u64),
    /// [`FaultAction::Slice`]: the size, how much more or less, and the time.
    Slice(u64, u64, Duration),
    /// [`FaultAction::Merge`]
    Merge(u64, Duration),
    /// [`FaultAction::Window`]
    Window(u64),
    /// The client is accepted, and reset.
    AcceptReset,
    /// The client is accepted, and nothing is received from it.
    AcceptSilent,
    /// The client is accepted, and its upstream is looked for so much later.
    ConnectDelay(Duration),
    /// Clients are refused by the kernel for so long; `None`: for ever.
    Refuse(Option<Duration>),
    /// What clients send to connect is dropped by the kernel for so long; `None`: for ever.
    Ignore(Option<Duration>),
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
    /// After each multiple of this many bytes.
    EveryBytes(u64),
    /// Where each frame begins whose number is a multiple of it.
    EveryFrames(u64),
    /// At a random byte in this share of the KiB of the stream, in millionths.
    RandomBytes(u32),
    /// At the start of this share of the frames, in millionths.
    RandomFrames(u32),
    /// So long after the connection began, or the proxy for the states of the listener.
    Time(Duration),
    /// Once nothing has come for so long.
    Idle(Duration),
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        match self {
            RuleAction::Hold | RuleAction::BlackHole | RuleAction::SwallowFin => true,
            action => action.is_of_timing(),
        }
    }

    /// Whether it says when, how fast or in which pieces what follows is sent.
    const fn is_of_timing(&self) -> bool {
        matches!(
            self,
            RuleAction::Delay(..)
                | RuleAction::Rate(_)
                | RuleAction::SharedRate(_)
                | RuleAction::Dribble(..)
                | RuleAction::Split(..)
                | RuleAction::Slice(..)
                | RuleAction::Merge(..)
                | RuleAction::Window(_)
        )
    }

    /// Whether it begins something that can end.
    const fn can_end(&self) -> bool {
        match self {
            RuleAction::Drop(_) | RuleAction::DropFrames(_) | RuleAction::TruncateFrame(_) => true,
            action => action.may_hold_from_the_start(),
        }
    }

    /// Whether it is for clients that have only just connected.
    const fn is_at_connect(&self) -> bool {
        matches!(
            self,
            RuleAction::AcceptReset | RuleAction::AcceptSilent | RuleAction::ConnectDelay(_)
        )
    }

    /// Whether it is a state of the listening sockets, for no connection by itself.
    pub const fn is_of_listener(&self) -> bool {
        matches!(self, RuleAction::Refuse(_) | RuleAction::Ignore(_))
    }

    /// Whether it is done to a frame as a whole, so that it must happen where one begins.
    const fn is_of_a_frame(&self) -> bool {
        matches!(
            self,
            RuleAction::SetLength(_)
                | RuleAction::AddLength(_)
                | RuleAction::DuplicateFrame
                | RuleAction::SwapFrame
                | RuleAction::TruncateFrame(_)
        )
    }
}

impl RulePlace {
    /// Whether it comes once unless it is said how often, and can come again.
    const fn may_be_repeated(&self) -> bool {
        self.is_repeated() || matches!(self, RulePlace::Match(_))
    }

    /// Whether there can be many of them.
    const fn is_repeated(&self) -> bool {
        matches!(
            self,
            RulePlace::EveryBytes(_)
                | RulePlace::EveryFrames(_)
                | RulePlace::RandomBytes(_)
                | RulePlace::RandomFrames(_)
        )
    }

    /// Whether a frame begins there.
    const fn begins_frame(&self) -> bool {
        matches!(
            self,
            RulePlace::Frame(_, FramePart::Byte(0))
                | RulePlace::EveryFrames(_)
                | RulePlace::RandomFrames(_)
        )
    }

    /// Whether it is in a frame.
    pub const fn is_in_frame(&self) -> bool {
        self.begins_frame() || matches!(self, RulePlace::Frame(..))
    }

    /// The place in a stream, for choices that depend on the seed; `None`: it is in none.
    fn of_stream(&self, seed: u64) -> Option<FaultPlace> {
        let chance = |per_million: u32| Chance { per_million, seed };
        Some(match self {
            RulePlace::Connect => return None,
            RulePlace::Byte(at) => FaultPlace::Byte(*at),
            RulePlace::Match(bytes) => FaultPlace::Match(bytes.as_slice().into()),
            RulePlace::Frame(number, part) => FaultPlace::Frame { number: *number, part: *part },
            RulePlace::Eof => FaultPlace::End,
            RulePlace::EveryBytes(step) => FaultPlace::EveryBytes(*step),
            RulePlace::EveryFrames(step) => FaultPlace::EveryFrames(*step),
            RulePlace::RandomBytes(share) => FaultPlace::RandomBytes(chance(*share)),
            RulePlace::RandomFrames(share) => FaultPlace::RandomFrames(chance(*share)),
            RulePlace::Time(time) => FaultPlace::Time(*time),
            RulePlace::Idle(time) => FaultPlace::Idle(*time),
        })
    }
}

impl Selector {
    /// Whether it is for that connection, by a choice that depends on the seed of the rule.
    pub fn has(self, who: Who, seed: u64) -> bool {
        match self {
            Selector::All => true,
            Selector::Range(first, last) => first <= who.connection && who.connection <= last,
            Selector::Every(step) => who.connection.is_multiple_of(step),
            Selector::Share(per_million) => Chance { per_million, seed }.hits(who.connection),
            Selector::From(network, bits) => {
                who.address.is_some_and(|address| is_in(address, network, bits))
            }
        }
    }
}

/// Whether an address has the first bits of another one; an IPv4 address in IPv6 is that address.
fn is_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    // As many as there are, or none, are shifted out.
    let shifted = |value: u128, width: u32| {
        let count = width.saturating_sub(u32::from(bits));
        value.checked_shr(count).unwrap_or(0)
    };
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let number = |address: std::net::Ipv4Addr| u128::from(address.to_bits());
            shifted(number(address), 32) == shifted(number(network), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            shifted(address.to_bits(), 128) == shifted(network.to_bits(), 128)
        }
        _ => false,
    }
}

impl Rule {
    /// Whether it can happen more than once in a direction.
    const fn is_repeated(&self) -> bool {
        self.place.is_repeated() || self.times.is_some()
    }

    /// Whether it sends RST to a side that may have a unix socket, which has none.
    pub const fn resets(&self) -> bool {
        matches!(
            self.action,
            RuleAction::Reset | RuleAction::ResetSides(_) | RuleAction::AcceptReset
        )
    }

    /// Whether it leaves something to chance that a trace can say.
    fn is_random(&self) -> bool {
        matches!(self.connections, Selector::Share(_))
            || matches!(self.place, RulePlace::RandomBytes(_) | RulePlace::RandomFrames(_))
            || matches!(self.action, RuleAction::Flip(_))
    }

    /// Whether it happens or ends at a time, and so not at the same place in every run.
    pub(crate) fn is_timed(&self) -> bool {
        self.places().any(|place| matches!(place, RulePlace::Time(_) | RulePlace::Idle(_)))
    }

    /// Where it happens, and where it ends.
    fn places(&self) -> impl Iterator<Item = &RulePlace> {
        [&self.place].into_iter().chain(&self.until)
    }

    /// What it did to a connection there, where its choices depend on the seed.
    fn explicit(&self, connection: u64, at: Option<(Direction, FiredFault)>, seed: u64) -> Rule {
        let mut rule = self.clone();
        rule.connections = Selector::Range(connection, connection);
        let Some((direction, FiredFault { position, frame, .. })) = at else { return rule };
        rule.direction = Some(direction);
        rule.place = match (&self.place, frame) {
            (RulePlace::RandomFrames(_) | RulePlace::EveryFrames(_), Some((number, _))) => {
                RulePlace::Frame(number, FramePart::Byte(0))
            }
            (place, _) if place.is_repeated() || self.times.is_some() => RulePlace::Byte(position),
            (place, _) => place.clone(),
        };
        rule.times = None;
        rule.until = rule.until.filter(|_| self.action.can_end());
        if let RuleAction::Flip(bits) = self.action {
            let seed = draw(seed, direction as u64);
            rule.action = RuleAction::Xor(vec![flip_mask(bits, seed, position)]);
        }
        rule
    }

    /// Whether it is for that direction.
    pub fn is_for(&self, direction: Direction) -> bool {
        self.direction.is_none_or(|other| other == direction)
    }

    /// What it needs to know about the frames of a direction that this format does not say, in
    /// words.
    pub fn lacks(&self, format: Option<&FrameFormat>) -> Option<&'static str> {
        if !self.places().any(RulePlace::is_in_frame) {
            return None;
        }
        let Some(format) = format else { return Some("frames") };
        let needs_header = self.places().any(|place| {
            matches!(place, RulePlace::Frame(_, FramePart::Payload | FramePart::BeforeEnd(_)))
        });
        let is_length = matches!(self.action, RuleAction::SetLength(_) | RuleAction::AddLength(_));
        if needs_header && !format.has_header() {
            Some("a length field")
        } else if is_length && !format.has_length_field() {
            Some("a length field of a fixed width")
        } else {
            None
        }
    }

    /// What it does to a direction of a connection that it is for, as the rule of this number, and
    /// where that ends. Choices depend on the seed, the connection, the direction, the rule and the
    /// place alone.
    fn faults(
        &self,
        rule: usize,
        direction: Direction,
        seed: u64,
        shared: Option<&SharedRate>,
    ) -> impl Iterator<Item = RelayFault> + use<> {
        let seed = draw(seed, direction as u64);
        let place = self.place.of_stream(seed).map(|place| match self.times {
            Some(times) => FaultPlace::First { times, of: Box::new(place) },
            None => place,
        });
        let fault = place.zip(self.fault_action(seed, shared));
        let until = self.until.as_ref().and_then(|place| place.of_stream(seed));
        let lift = until.map(|place| (place, FaultAction::Lift));
        let all = fault.into_iter().chain(lift);
        all.map(move |(place, action)| RelayFault { rule, place, action })
    }

    /// What it does to a stream; `None`: it is not for streams.
    fn fault_action(&self, seed: u64, shared: Option<&SharedRate>) -> Option<FaultAction> {
        let boxed = |bytes: &[u8]| bytes.into();
        Some(match &self.action {
            RuleAction::Reset => FaultAction::Reset,
            RuleAction::ResetSides(sides) => FaultAction::ResetSides(*sides),
            RuleAction::FinEarly => FaultAction::Finish,
            RuleAction::Close => FaultAction::Close,
            RuleAction::Stall(time) => FaultAction::Stall(*time),
            RuleAction::Hold => match self.until {
                Some(RulePlace::Time(time)) => FaultAction::HoldUntil(time),
                _ => FaultAction::Hold,
            },
            RuleAction::BlackHole => FaultAction::BlackHole,
            RuleAction::Drop(count) => FaultAction::Drop(*count),
            RuleAction::DropFrames(count) => FaultAction::DropFrames(*count),
            RuleAction::TruncateFrame(kept) => FaultAction::TruncateFrame(*kept),
            RuleAction::Flip(bits) => FaultAction::Flip { bits: *bits, seed },
            RuleAction::Xor(bytes) => FaultAction::Xor(boxed(bytes)),
            RuleAction::Set(bytes) => FaultAction::Set(boxed(bytes)),
            RuleAction::Insert(bytes) => FaultAction::Insert(boxed(bytes)),
            RuleAction::SwallowFin => FaultAction::SwallowFin,
            RuleAction::SetLength(value) => FaultAction::SetLength(*value),
            RuleAction::AddLength(by) => FaultAction::AddLength(*by),
            RuleAction::DuplicateFrame => FaultAction::DuplicateFrame,
            RuleAction::SwapFrame => FaultAction::SwapFrame,
            RuleAction::Delay(time, jitter) => {
                FaultAction::Delay { time: *time, jitter: *jitter, seed }
            }
            RuleAction::Rate(bytes) => FaultAction::Rate(*bytes),
            RuleAction::SharedRate(_) => FaultAction::SharedRate(shared?.clone()),
            RuleAction::Dribble(bytes, per) => FaultAction::Dribble { bytes: *bytes, per: *per },
            RuleAction::Split(first, every) => FaultAction::Split { first: *first, every: *every },
            RuleAction::Slice(size, vary, per) => {
                FaultAction::Slice { size: *size, vary: *vary, per: *per, seed }
            }
            RuleAction::Merge(bytes, within) => {
                FaultAction::Merge { bytes: *bytes, within: *within }
            }
            RuleAction::Window(bytes) => FaultAction::Window(*bytes),
            RuleAction::AcceptReset
            | RuleAction::AcceptSilent
            | RuleAction::ConnectDelay(_)
            | RuleAction::Refuse(_)
            | RuleAction::Ignore(_) => return None,
        })
    }
}

/// What a rule needs to know about frames that these formats do not say, in words.
pub(crate) fn lacking(rule: &Rule, frames: Option<&FrameFormats>) -> Option<&'static str> {
    let directions = [Direction::Up, Direction::Down].into_iter();
    let own = directions.filter(|direction| rule.is_for(*direction));
    own.filter_map(|direction| rule.lacks(frames.map(|it| it.towards(direction.receiver())))).next()
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
