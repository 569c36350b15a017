//! The canonical text of a rule.

use std::fmt::{self, Write as _};
use std::time::Duration;

use trust_wire::relay::FramePart;

use super::{Rule, RuleAction, RulePlace, Selector};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connections {
            Selector::All => {}
            Selector::Range(first, last) if first == last => write!(f, "conn {first}: ")?,
            Selector::Range(first, last) => write!(f, "conn {first}..{last}: ")?,
            Selector::Every(step) => write!(f, "conn every {step}: ")?,
            Selector::Share(share) => write!(f, "conn {}: ", ShownShare(share))?,
            Selector::From(network, bits) => write!(f, "conn from {network}/{bits}: ")?,
        }
        self.action.fmt(f)?;
        match &self.place {
            RulePlace::Byte(0) if self.action.may_hold_from_the_start() => {}
            RulePlace::Time(Duration::ZERO) if self.action.is_of_listener() => {}
            RulePlace::Connect if matches!(self.action, RuleAction::ConnectDelay(_)) => {}
            place => write!(f, " @ {place}")?,
        }
        if let RuleAction::Refuse(Some(time)) | RuleAction::Ignore(Some(time)) = &self.action {
            write!(f, " for {}", ShownTime(*time))?;
        }
        match self.times {
            None => {}
            Some(1) => f.write_str(" 1 time")?,
            Some(times) => write!(f, " {times} times")?,
        }
        if let Some(place) = &self.until {
            write!(f, " until {place}")?;
        }
        match self.direction {
            None => Ok(()),
            Some(direction) => write!(f, " {}", direction.word()),
        }
    }
}

impl fmt::Display for RulePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RulePlace::Connect => f.write_str("connect"),
            RulePlace::Byte(at) => write!(f, "byte {at}"),
            RulePlace::Match(bytes) => write!(f, "match {}", ShownBytes(bytes)),
            RulePlace::Frame(number, part) => {
                write!(f, "frame {number}")?;
                match part {
                    FramePart::Byte(0) => Ok(()),
                    FramePart::Byte(at) => write!(f, " byte {at}"),
                    FramePart::Payload => f.write_str(" payload"),
                    FramePart::BeforeEnd(count) => write!(f, " -{count}"),
                    FramePart::End => f.write_str(" end"),
                }
            }
            RulePlace::Eof => f.write_str("eof"),
            RulePlace::EveryBytes(1) => f.write_str("every 1 byte"),
            RulePlace::EveryBytes(step) => write!(f, "every {step} bytes"),
            RulePlace::EveryFrames(1) => f.write_str("every 1 frame"),
            RulePlace::EveryFrames(step) => write!(f, "every {step} frames"),
            RulePlace::RandomBytes(share) => write!(f, "random {} per KiB", ShownShare(*share)),
            RulePlace::RandomFrames(share) => write!(f, "random {} per frame", ShownShare(*share)),
            RulePlace::Time(time) => write!(f, "time {}", ShownTime(*time)),
            RulePlace::Idle(time) => write!(f, "idle {}", ShownTime(*time)),
        }
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleAction::Reset => f.write_str("rst"),
            RuleAction::ResetSides([true, true]) => f.write_str("rst both"),
            RuleAction::ResetSides([is_client, _]) => {
                f.write_str(if *is_client { "rst client" } else { "rst server" })
            }
            RuleAction::FinEarly => f.write_str("fin early"),
            RuleAction::Close => f.write_str("close"),
            RuleAction::Stall(time) => write!(f, "stall {}", ShownTime(*time)),
            RuleAction::Hold => f.write_str("hold"),
            RuleAction::BlackHole => f.write_str("black-hole"),
            RuleAction::Drop(1) => f.write_str("drop 1 byte"),
            RuleAction::Drop(count) => write!(f, "drop {count} bytes"),
            RuleAction::DropFrames(1) => f.write_str("drop 1 frame"),
            RuleAction::DropFrames(count) => write!(f, "drop {count} frames"),
            RuleAction::TruncateFrame(kept) => write!(f, "truncate {kept}"),
            RuleAction::Flip(1) => f.write_str("flip 1 bit"),
            RuleAction::Flip(count) => write!(f, "flip {count} bits"),
            RuleAction::Xor(bytes) => write!(f, "xor {}", Hex(bytes)),
            RuleAction::Set(bytes) => write!(f, "set {}", ShownBytes(bytes)),
            RuleAction::Insert(bytes) => write!(f, "insert {}", ShownBytes(bytes)),
            RuleAction::SwallowFin => f.write_str("swallow fin"),
            RuleAction::SetLength(value) => write!(f, "length = {value}"),
            RuleAction::AddLength(by) if *by < 0 => write!(f, "length - {}", by.unsigned_abs()),
            RuleAction::AddLength(by) => write!(f, "length + {by}"),
            RuleAction::DuplicateFrame => f.write_str("dup frame"),
            RuleAction::SwapFrame => f.write_str("swap frame"),
            RuleAction::Delay(time, Duration::ZERO) => write!(f, "delay {}", ShownTime(*time)),
            RuleAction::Delay(time, jitter) => {
                write!(f, "delay {} ±{}", ShownTime(*time), ShownTime(*jitter))
            }
            RuleAction::Rate(bytes) => write!(f, "rate {}", ShownRate(*bytes)),
            RuleAction::SharedRate(bytes) => write!(f, "rate {} shared", ShownRate(*bytes)),
            RuleAction::Dribble(bytes, per) => write!(f, "dribble {bytes} per {}", ShownTime(*per)),
            RuleAction::Split(first, every) => write!(f, "split {first} every {every}"),
            RuleAction::Slice(size, vary, per) => {
                write!(f, "slice {size}")?;
                if *vary > 0 {
                    write!(f, " ±{vary}")?;
                }
                if !per.is_zero() {
                    write!(f, " per {}", ShownTime(*per))?;
                }
                Ok(())
            }
            RuleAction::Merge(bytes, within) => {
                write!(f, "merge {bytes} within {}", ShownTime(*within))
            }
            RuleAction::Window(bytes) => write!(f, "window {bytes}"),
            RuleAction::Refuse(_) => f.write_str("refuse"),
            RuleAction::Ignore(_) => f.write_str("ignore"),
            RuleAction::AcceptReset => f.write_str("accept-rst"),
            RuleAction::AcceptSilent => f.write_str("accept-silent"),
            RuleAction::ConnectDelay(time) => write!(f, "connect-delay {}", ShownTime(*time)),
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

/// A share in percent, as short as it can be.
struct ShownShare(u32);

impl fmt::Display for ShownShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, format!("{:04}", self.0 % 10_000));
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            part => write!(f, "{whole}.{part}%"),
        }
    }
}

/// Bytes per second in the largest unit in which they are whole.
struct ShownRate(u64);

impl fmt::Display for ShownRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "GB/s"), (1_000_000, "MB/s"), (1000, "kB/s"), (1, "B/s")];
        let fits =
            |(unit, _): &(u64, &str)| *unit == 1 || self.0 >= *unit && self.0.is_multiple_of(*unit);
        let (unit, name) = units.into_iter().find(fits).expect("every rate is whole in B/s");
        write!(f, "{}{name}", self.0 / unit)
    }
}
