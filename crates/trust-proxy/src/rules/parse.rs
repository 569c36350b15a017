//! From the text of a rule to the rule.

mod scanner;

use std::net::IpAddr;
use std::time::Duration;

use trust_wire::relay::FramePart;

use self::scanner::{Scanner, parse_share};
use super::{Direction, MATCH_MAX, Rule, RuleAction, RulePlace, Selector};

pub(super) use self::scanner::RuleError;

const ACTIONS: &str = "rst [client|server|both], fin early, close, stall TIME, hold, black-hole, \
                       swallow fin, drop N bytes|frames, flip N bits, xor 0xHEX, set BYTES, \
                       insert BYTES, length =|+|- N, dup frame, swap frame, truncate N, \
                       delay TIME [±TIME], rate N kB/s [shared], dribble N per TIME, \
                       split N every N, slice N [±N] [per TIME], merge N within TIME, window N, \
                       accept-rst, accept-silent, connect-delay TIME, refuse or ignore";
const PLACES: &str = "byte N, frame N, match BYTES, eof, every N bytes|frames, \
                      random P% per frame|KiB, time TIME, idle TIME or connect";
const UNTIL: &str = "byte N, frame N, match BYTES, time TIME or idle TIME";
const PARTS: &str = "byte N, payload, end, -N or nothing";
const SELECTORS: &str = "N, N..M, every N, P%, from ADDRESS/BITS or *";

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    ///
    /// Where the first wrong word is, and what is expected there.
    pub fn parse(text: &str) -> Result<Rule, RuleError> {
        let mut scanner = Scanner { text, at: 0 };
        scanner.skip_blanks();
        let start = scanner.at;
        let connections = selector(&mut scanner)?;
        scanner.skip_blanks();
        let action_at = scanner.at;
        let mut action = action(&mut scanner)?;
        if action.is_of_listener() && connections != Selector::All {
            let what = "no connections here: the kernel refuses without a word, so they cannot be \
                        counted; accept-rst can be used instead";
            return Err(scanner.expected_at(start, what));
        }
        let place = start_place(&mut scanner, &action)?;
        if place == RulePlace::Connect && !action.is_at_connect() {
            let what = "accept-rst, accept-silent or connect-delay, which happen at connect";
            return Err(scanner.expected_at(action_at, what));
        }
        if action.is_of_a_frame() && !place.begins_frame() {
            let what = "another action here: this one needs a frame, as @ frame N";
            return Err(scanner.expected_at(action_at, what));
        }
        if matches!(action, RuleAction::DropFrames(_)) && !place.is_in_frame() {
            let what = "another action here: frames are dropped @ frame N";
            return Err(scanner.expected_at(action_at, what));
        }
        if let RuleAction::Refuse(time) | RuleAction::Ignore(time) = &mut action
            && scanner.take_if("for")
        {
            *time = Some(scanner.positive_time()?);
        }
        let is_of_stream = !action.is_at_connect() && !action.is_of_listener();
        let (times, until, direction) = (None, None, None);
        let mut rule = Rule { connections, action, place, times, until, direction };
        let mut expected = vec![];
        if is_of_stream {
            expected = rule.read_rest(&mut scanner)?;
        } else if let RuleAction::Refuse(None) | RuleAction::Ignore(None) = &rule.action {
            expected.push("for TIME");
        }
        if rule.action.is_of_timing() && rule.is_repeated() {
            let what = "another action here: this one holds from one place on";
            return Err(scanner.expected_at(action_at, what));
        }
        scanner.skip_blanks();
        if !scanner.rest().is_empty() {
            let more: String = expected.iter().map(|what| format!("{what}, ")).collect();
            let what = match more.strip_suffix(", ") {
                None => "the end of the rule".to_owned(),
                Some(more) => format!("{more} or the end of the rule"),
            };
            return Err(scanner.expected(what));
        }
        Ok(rule)
    }

    /// Reads how often it happens, where it ends and in which direction, in any order; returns what
    /// of that could still follow.
    fn read_rest(&mut self, scanner: &mut Scanner<'_>) -> Result<Vec<&'static str>, RuleError> {
        let can_repeat = self.place.may_be_repeated();
        let can_end = can_repeat || self.action.can_end();
        let mut times = None;
        loop {
            let word = scanner.peek();
            let at = scanner.at;
            let direction =
                [Direction::Up, Direction::Down].into_iter().find(|it| it.word() == word);
            if direction.is_some() && self.direction.is_none() {
                scanner.take();
                self.direction = direction;
            } else if scanner.is_at_times() && times.is_none() {
                times = Some(scanner.number(1, "how many times, from 1")?);
                scanner.require_plural("time")?;
                if !can_repeat {
                    let what = "no number of times here: this place comes once";
                    return Err(scanner.expected_at(at, what));
                }
            } else if word == "until" && self.until.is_none() {
                scanner.take();
                if !can_end {
                    let what = "no until here: what this rule does is over at once";
                    return Err(scanner.expected_at(at, what));
                }
                self.until = Some(end_place(scanner, &self.action)?);
            } else {
                break;
            }
        }
        // Of a match that is no more than without.
        self.times = times.filter(|times| self.place.is_repeated() || *times > 1);
        let expected = [
            ("N times", can_repeat && times.is_none()),
            ("until PLACE", can_end && self.until.is_none()),
            ("up", self.direction.is_none()),
            ("down", self.direction.is_none()),
        ];
        Ok(expected.into_iter().filter(|(_, can_follow)| *can_follow).map(|(it, _)| it).collect())
    }
}

fn selector(scanner: &mut Scanner<'_>) -> Result<Selector, RuleError> {
    if !scanner.take_if("conn") {
        return Ok(Selector::All);
    }
    let selector = match scanner.peek() {
        "*" => {
            scanner.take();
            Selector::All
        }
        "every" => {
            scanner.take();
            Selector::Every(scanner.number(1, "a number from 1")?)
        }
        "from" => {
            scanner.take();
            // The colons of an address are no end of it, but the one after it is.
            let word = scanner.peek_all();
            let words = [scanner.peek(), word.strip_suffix(':').unwrap_or(word)];
            let parsed =
                words.into_iter().find_map(|it| parse_network(it).map(|found| (it, found)));
            let Some((word, (network, bits))) = parsed else {
                return Err(scanner.expected("an address and how many bits of it, as 10.0.0.0/8"));
            };
            scanner.at += word.len();
            Selector::From(network, bits)
        }
        word if word.ends_with('%') => match parse_share(word) {
            Some(share) => {
                scanner.take();
                Selector::Share(share)
            }
            None => return Err(scanner.expected("a share from 0.0001% to 100%")),
        },
        word => {
            let (first, last) = word.split_once("..").unwrap_or((word, word));
            let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => {
                    scanner.take();
                    Selector::Range(first, last)
                }
                _ => return Err(scanner.expected(format!("connections: {SELECTORS}"))),
            }
        }
    };
    match scanner.take_character(':') {
        true => Ok(selector),
        false => Err(scanner.expected("a colon after the connections")),
    }
}

/// An address, and how many of its bits count; all of them if that is not said.
fn parse_network(word: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = word.split_once('/').map_or((word, None), |(it, bits)| (it, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    let found = (bits <= most).then_some((address, bits))?;
    // An IPv4 address in IPv6 is that address.
    match (address.to_canonical(), bits.checked_sub(96)) {
        (canonical @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => Some((canonical, bits)),
        _ => Some(found),
    }
}

/// An action that is one word.
fn simple_action(word: &str) -> Option<RuleAction> {
    Some(match word {
        "close" => RuleAction::Close,
        "hold" => RuleAction::Hold,
        "black-hole" => RuleAction::BlackHole,
        "accept-rst" => RuleAction::AcceptReset,
        "accept-silent" => RuleAction::AcceptSilent,
        "refuse" => RuleAction::Refuse(None),
        "ignore" => RuleAction::Ignore(None),
        _ => return None,
    })
}

fn action(scanner: &mut Scanner<'_>) -> Result<RuleAction, RuleError> {
    let word = scanner.peek();
    if let Some(action) = simple_action(word) {
        scanner.take();
        return Ok(action);
    }
    let unknown = scanner.expected(format!("an action: {ACTIONS}"));
    scanner.take();
    match word {
        "rst" => {
            let sides = [("client", [true, false]), ("server", [false, true]), ("both", [true; 2])];
            let named = sides.into_iter().find(|(name, _)| scanner.take_if(name));
            Ok(named.map_or(RuleAction::Reset, |(_, sides)| RuleAction::ResetSides(sides)))
        }
        "fin" => scanner.require("early").map(|()| RuleAction::FinEarly),
        "swallow" => scanner.require("fin").map(|()| RuleAction::SwallowFin),
        "stall" => scanner.time().map(RuleAction::Stall),
        "drop" => {
            let count = scanner.number(1, "how many bytes or frames, from 1")?;
            if scanner.take_if("frames") || scanner.take_if("frame") {
                return Ok(RuleAction::DropFrames(count));
            }
            match scanner.take_if("bytes") || scanner.take_if("byte") {
                true => Ok(RuleAction::Drop(count)),
                false => Err(scanner.expected("bytes or frames")),
            }
        }
        "flip" => {
            let what = "how many bits, from 1 to 8";
            scanner.skip_blanks();
            let at = scanner.at;
            let count = scanner.number(1, what)?;
            if count > 8 {
                return Err(scanner.expected_at(at, what));
            }
            scanner.require_plural("bit")?;
            Ok(RuleAction::Flip(count as u32))
        }
        "length" => length(scanner),
        "xor" => scanner.bytes().map(RuleAction::Xor),
        "set" => scanner.bytes().map(RuleAction::Set),
        "insert" => scanner.bytes().map(RuleAction::Insert),
        "dup" => {
            scanner.take_if("frame");
            Ok(RuleAction::DuplicateFrame)
        }
        "swap" => {
            scanner.take_if("frame");
            Ok(RuleAction::SwapFrame)
        }
        "truncate" => {
            let kept = scanner.number(1, "how many bytes of the frame stay, from 1");
            kept.map(RuleAction::TruncateFrame)
        }
        "delay" => {
            scanner.skip_blanks();
            let at = scanner.at;
            match (scanner.time()?, scanner.jitter()?) {
                (Duration::ZERO, Duration::ZERO) => Err(scanner.expected_at(at, "a time above 0")),
                (time, jitter) => Ok(RuleAction::Delay(time, jitter)),
            }
        }
        "rate" => {
            scanner.skip_blanks();
            let at = scanner.at;
            let bytes = scanner.rate()?;
            match (scanner.take_if("shared"), bytes) {
                (false, _) => Ok(RuleAction::Rate(bytes)),
                (true, 0) => Err(scanner.expected_at(at, "a rate above 0 to share")),
                (true, _) => Ok(RuleAction::SharedRate(bytes)),
            }
        }
        "dribble" => {
            let bytes = scanner.number(1, "how many bytes at once, from 1")?;
            scanner.require("per")?;
            Ok(RuleAction::Dribble(bytes, scanner.positive_time()?))
        }
        "split" => {
            let first = scanner.number(1, "how many bytes by themselves, from 1")?;
            if !scanner.take_if("every") {
                return Ok(RuleAction::Split(first, first));
            }
            let what = format!("of how many bytes, from {first}");
            Ok(RuleAction::Split(first, scanner.number(first, &what)?))
        }
        "slice" => {
            let size = scanner.number(1, "how many bytes in a piece, from 1")?;
            let vary = scanner.spread(size)?;
            let per = scanner.take_if("per").then(|| scanner.positive_time()).transpose()?;
            Ok(RuleAction::Slice(size, vary, per.unwrap_or_default()))
        }
        "merge" => {
            let bytes = scanner.number(1, "how many bytes at once, from 1")?;
            scanner.require("within")?;
            Ok(RuleAction::Merge(bytes, scanner.positive_time()?))
        }
        "window" => scanner.number(1, "how many bytes, from 1").map(RuleAction::Window),
        "connect-delay" => scanner.positive_time().map(RuleAction::ConnectDelay),
        _ => Err(unknown),
    }
}

/// What becomes of the length field of a frame.
fn length(scanner: &mut Scanner<'_>) -> Result<RuleAction, RuleError> {
    if scanner.take_character('=') {
        return scanner.number(0, "what the length field says").map(RuleAction::SetLength);
    }
    let what = "how much, from 1";
    let is_less = scanner.take_character('-');
    if !is_less && !scanner.take_character('+') {
        return Err(scanner.expected("=, + or - and a number"));
    }
    scanner.skip_blanks();
    let at = scanner.at;
    let by = i64::try_from(scanner.number(1, what)?);
    match by {
        Ok(by) => Ok(RuleAction::AddLength(if is_less { -by } else { by })),
        Err(_) => Err(scanner.expected_at(at, what)),
    }
}

/// Where it happens, or begins.
fn start_place(scanner: &mut Scanner<'_>, action: &RuleAction) -> Result<RulePlace, RuleError> {
    let zero = RulePlace::Time(std::time::Duration::ZERO);
    if !scanner.take_character('@') {
        return match action {
            action if action.may_hold_from_the_start() => Ok(RulePlace::Byte(0)),
            action if action.is_of_listener() => Ok(zero),
            RuleAction::ConnectDelay(_) => Ok(RulePlace::Connect),
            action if action.is_at_connect() => Err(scanner.expected("@ connect")),
            _ => Err(scanner.expected(format!("@ and a place: {PLACES}"))),
        };
    }
    match scanner.peek() {
        "time" if action.is_of_listener() => place(scanner),
        _ if action.is_of_listener() => Err(scanner.expected("time TIME")),
        "connect" => {
            scanner.take();
            Ok(RulePlace::Connect)
        }
        _ if action.is_at_connect() => Err(scanner.expected("connect")),
        _ => place(scanner),
    }
}

/// Where it ends.
fn end_place(scanner: &mut Scanner<'_>, action: &RuleAction) -> Result<RulePlace, RuleError> {
    match scanner.peek() {
        "time" => place(scanner),
        _ if *action == RuleAction::Hold => {
            let what = "time TIME: after a hold nothing is received, so no other place comes";
            Err(scanner.expected(what))
        }
        "byte" | "frame" | "match" | "idle" => place(scanner),
        _ => Err(scanner.expected(format!("a place where it ends: {UNTIL}"))),
    }
}

fn place(scanner: &mut Scanner<'_>) -> Result<RulePlace, RuleError> {
    match scanner.peek() {
        "byte" => {
            scanner.take();
            scanner.number(0, "how many bytes come before it, from 0").map(RulePlace::Byte)
        }
        "frame" => {
            scanner.take();
            let number = scanner.number(1, "the number of a frame, from 1")?;
            Ok(RulePlace::Frame(number, part(scanner)?))
        }
        "every" => {
            scanner.take();
            let step = scanner.number(1, "how many bytes or frames, from 1")?;
            if scanner.take_if("frames") || scanner.take_if("frame") {
                return Ok(RulePlace::EveryFrames(step));
            }
            match scanner.take_if("bytes") || scanner.take_if("byte") {
                true => Ok(RulePlace::EveryBytes(step)),
                false => Err(scanner.expected("bytes or frames")),
            }
        }
        "random" => {
            scanner.take();
            let share = scanner.share()?;
            scanner.require("per")?;
            if scanner.take_if("frame") {
                return Ok(RulePlace::RandomFrames(share));
            }
            match scanner.take_if("KiB") {
                true => Ok(RulePlace::RandomBytes(share)),
                false => Err(scanner.expected("frame or KiB")),
            }
        }
        "time" => {
            scanner.take();
            scanner.time().map(RulePlace::Time)
        }
        "idle" => {
            scanner.take();
            scanner.positive_time().map(RulePlace::Idle)
        }
        "eof" => {
            scanner.take();
            Ok(RulePlace::Eof)
        }
        "match" => {
            scanner.take();
            scanner.skip_blanks();
            let at = scanner.at;
            let bytes = scanner.bytes()?;
            match bytes.len() {
                0..=MATCH_MAX => Ok(RulePlace::Match(bytes)),
                _ => Err(scanner.expected_at(at, format!("up to {MATCH_MAX} bytes"))),
            }
        }
        _ => Err(scanner.expected(format!("a place: {PLACES}"))),
    }
}

/// Where in a frame; nothing stands for its start.
fn part(scanner: &mut Scanner<'_>) -> Result<FramePart, RuleError> {
    // The first bytes of a frame are its header.
    let is_header = scanner.take_if("header");
    match scanner.peek() {
        "byte" => {
            scanner.take();
            scanner.number(0, "how many bytes of the frame come before it").map(FramePart::Byte)
        }
        _ if is_header => Ok(FramePart::Byte(0)),
        "start" => {
            scanner.take();
            Ok(FramePart::Byte(0))
        }
        "payload" => {
            scanner.take();
            Ok(FramePart::Payload)
        }
        "end" => {
            scanner.take();
            Ok(FramePart::End)
        }
        word if word.starts_with('-') => {
            scanner.take_character('-');
            scanner.number(1, "how many of the last bytes").map(FramePart::BeforeEnd)
        }
        "" | "up" | "down" | "until" => Ok(FramePart::Byte(0)),
        _ if scanner.is_at_times() => Ok(FramePart::Byte(0)),
        _ => Err(scanner.expected(format!("a part of the frame: {PARTS}"))),
    }
}
