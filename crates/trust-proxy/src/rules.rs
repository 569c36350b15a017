//! Rules: which faults happen to which connections, where, and in which direction.
//!
//! A rule has one canonical text, which is what events show: parsing it gives the same rule.

mod parse;
#[cfg(test)]
mod tests;

mod shown;

use std::collections::BTreeMap;
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

/// All rules, and how often each of them has happened.
#[derive(Debug, Default)]
pub struct Rules {
    /// By their numbers, which are not used again.
    rules: BTreeMap<usize, KeptRule>,
    next: usize,
    seed: u64,
    /// The rates that connections share, of the rules whose choices are drawn by these numbers.
    shared: BTreeMap<(u64, Direction), SharedRate>,
}

/// A rule, and what it has done.
#[derive(Debug)]
pub struct KeptRule {
    /// What happens, where and to whom.
    pub rule: Rule,
    /// By which number its choices are drawn.
    pub(crate) drawn_by: u64,
    /// How often it has happened.
    pub fired: u64,
    /// `None`: it is for all connections.
    pub owner: Option<RuleOwner>,
}

/// For whose connections a rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOwner {
    /// Those of this pair of a place to listen and an upstream.
    pub pair: usize,
    /// Only those that have the toxic of this name.
    pub toxic: Option<String>,
}

impl Rules {
    /// These rules, of which none has happened.
    pub fn new(rules: Vec<Rule>, seed: u64) -> Rules {
        let mut all = Rules { seed, ..Rules::default() };
        for rule in rules {
            all.add(rule, None);
        }
        all
    }

    /// The rules of a run with the numbers that their choices are drawn by, but in place of those
    /// that leave something to chance what these did.
    pub(crate) fn replay(rules: Vec<(u64, Rule)>, explicit: &[(u64, Rule)], seed: u64) -> Rules {
        let mut replayed = Rules { seed, ..Rules::default() };
        for (drawn_by, rule) in rules {
            let is_random = rule.is_random();
            let own = explicit.iter().filter(|(of, _)| is_random && *of == drawn_by);
            let own = own.map(|(_, rule)| rule.clone());
            for rule in own.chain((!is_random).then_some(rule)) {
                replayed.insert(KeptRule { rule, drawn_by, fired: 0, owner: None });
            }
        }
        replayed
    }

    /// Adds a rule; its number.
    pub fn add(&mut self, rule: Rule, owner: Option<RuleOwner>) -> usize {
        self.insert(KeptRule { rule, drawn_by: self.next as u64, fired: 0, owner })
    }

    /// Adds a rule that comes after all others at its place, also after those added later.
    pub fn add_last(&mut self, rule: Rule) {
        let kept = KeptRule { rule, drawn_by: u64::MAX, fired: 0, owner: None };
        self.rules.insert(usize::MAX, kept);
    }

    fn insert(&mut self, kept: KeptRule) -> usize {
        // A replay shares as its run did.
        if let RuleAction::SharedRate(bytes) = kept.rule.action {
            for direction in [Direction::Up, Direction::Down] {
                let rate = self.shared.entry((kept.drawn_by, direction));
                rate.or_insert_with(|| SharedRate::new(bytes));
            }
        }
        let number = self.next;
        self.rules.insert(number, kept);
        self.next += 1;
        number
    }

    /// Removes a rule, which nothing does any longer.
    pub fn remove(&mut self, number: usize) {
        if let Some(kept) = self.rules.remove(&number) {
            self.shared.retain(|(drawn_by, _), _| *drawn_by != kept.drawn_by);
        }
    }

    /// Has the choices of connections from now on depend on another seed.
    pub const fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// By which number the choices of a rule are drawn.
    pub(crate) fn drawn_by(&self, number: usize) -> u64 {
        self.rules[&number].drawn_by
    }

    /// The rule that does what this one did to a connection there, if it left that to chance.
    pub(crate) fn explicit(
        &self,
        number: usize,
        connection: u64,
        at: Option<(Direction, FiredFault)>,
    ) -> Option<Rule> {
        let kept = &self.rules[&number];
        let seed = self.seed_of(kept, connection);
        kept.rule.is_random().then(|| kept.rule.explicit(connection, at, seed))
    }

    /// The rule of that number.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn rule(&self, number: usize) -> &Rule {
        &self.rules[&number].rule
    }

    /// The toxic that a rule does.
    pub fn toxic(&self, number: usize) -> Option<&str> {
        self.rules[&number].owner.as_ref()?.toxic.as_deref()
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

    /// Each of them, with its number.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &KeptRule)> {
        self.rules.iter().map(|(number, kept)| (*number, kept))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().map(|kept| &kept.rule)
    }

    /// What the choices of a rule for a connection depend on.
    fn seed_of(&self, rule: &KeptRule, connection: u64) -> u64 {
        draw(draw(self.seed, connection), rule.drawn_by)
    }

    /// The rules for a connection, but for those of toxics, with their numbers and what their
    /// choices depend on.
    fn of(&self, who: Who) -> impl Iterator<Item = (usize, &KeptRule, u64)> {
        let is_for = move |owner: &RuleOwner| owner.toxic.is_none() && owner.pair == who.pair;
        let own = self.numbered().filter(move |(_, kept)| kept.owner.as_ref().is_none_or(is_for));
        let seeded =
            own.map(move |(number, kept)| (number, kept, self.seed_of(kept, who.connection)));
        seeded.filter(move |(_, kept, seed)| kept.rule.connections.has(who, *seed))
    }

    /// What happens to a connection before its upstream is looked for: the first rule from that
    /// number on that says so.
    pub fn at_connect(&self, who: Who, from: usize) -> Option<(usize, &RuleAction)> {
        let mut rules = self.of(who).skip_while(|(number, ..)| *number < from);
        let found = rules.find(|(_, kept, _)| kept.rule.place == RulePlace::Connect);
        found.map(|(number, kept, _)| (number, &kept.rule.action))
    }

    /// What happens to a direction of a connection, but for what toxics do.
    pub fn faults(&self, who: Who, direction: Direction) -> Vec<RelayFault> {
        let rules = self.of(who).filter(|(_, kept, _)| kept.rule.is_for(direction));
        let faults = rules.flat_map(|(number, kept, seed)| {
            let shared = self.shared.get(&(kept.drawn_by, direction));
            kept.rule.faults(number, direction, seed, shared)
        });
        faults.collect()
    }

    /// The numbers of the rules of a pair, but for those of toxics.
    pub fn numbers_of(&self, pair: usize) -> Vec<usize> {
        let is_of = |owner: &RuleOwner| owner.toxic.is_none() && owner.pair == pair;
        let own = self.numbered().filter(|(_, kept)| kept.owner.as_ref().is_some_and(is_of));
        own.map(|(number, _)| number).collect()
    }

    /// What some rules do to a direction of a connection that is under way, after so many bytes and
    /// so long after it was first armed: rules without a place begin there.
    pub fn faults_from(
        &self,
        numbers: &[usize],
        who: Who,
        direction: Direction,
        (position, elapsed): (u64, Duration),
    ) -> Vec<RelayFault> {
        let is_one = |number: usize, kept: &KeptRule| {
            numbers.contains(&number) && kept.rule.is_for(direction)
        };
        let rules = self.of(who).filter(|(number, kept, _)| is_one(*number, kept));
        let faults = rules.flat_map(|(number, kept, seed)| {
            let holds_from_here =
                kept.rule.place == RulePlace::Byte(0) && kept.rule.action.may_hold_from_the_start();
            let bytes = if holds_from_here { position } else { 0 };
            let shared = self.shared.get(&(kept.drawn_by, direction));
            let faults = kept.rule.faults(number, direction, seed, shared);
            faults.map(move |fault| match fault.action {
                FaultAction::Lift => fault.later(0, elapsed),
                _ => fault.later(bytes, elapsed),
            })
        });
        faults.collect()
    }

    /// What a rule does to a direction of a connection, in place of the kept one of that number.
    pub fn faults_like(
        &self,
        number: usize,
        rule: &Rule,
        connection: u64,
        direction: Direction,
    ) -> impl Iterator<Item = RelayFault> + use<> {
        let kept = &self.rules[&number];
        let shared = self.shared.get(&(kept.drawn_by, direction));
        rule.faults(number, direction, self.seed_of(kept, connection), shared)
    }

    /// Records that a rule has happened; its text.
    pub fn note_fired(&mut self, number: usize) -> String {
        let kept = self.rules.get_mut(&number).expect("rules stay while they can happen");
        kept.fired += 1;
        kept.rule.to_string()
    }

    /// The rules that have not happened, but for those of toxics.
    pub fn unfired(&self) -> impl Iterator<Item = &Rule> {
        let is_unfired = |kept: &&KeptRule| {
            kept.fired == 0 && kept.owner.as_ref().is_none_or(|owner| owner.toxic.is_none())
        };
        self.rules.values().filter(is_unfired).map(|kept| &kept.rule)
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
