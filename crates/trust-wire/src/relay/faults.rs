//! What a relay does to one direction on purpose, at exact places of its stream.
//!
//! Every place counts the bytes that came from the source, before any fault changed them, so it
//! does not depend on how the network cut the stream, nor on other faults.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Timestamp;

mod frames;
mod search;

use self::frames::{FrameEvent, FrameTracker};
use self::search::Search;

pub use self::frames::{FrameFormat, LostFraming};

/// A fault of one direction of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayFault {
    /// For the caller to know it by. Faults at one place happen in the order of these.
    pub rule: usize,
    /// Where it happens, once.
    pub place: FaultPlace,
    /// What happens.
    pub action: FaultAction,
}

/// A place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultPlace {
    /// After this many bytes.
    Byte(u64),
    /// After the first occurrence of these bytes; never if there are none.
    Match(Box<[u8]>),
    /// Inside a frame; never if the frame does not come, or is too short for that.
    Frame {
        /// Which one, from 1.
        number: u64,
        /// Where in it.
        part: FramePart,
    },
    /// After the last byte, if the stream ends with FIN.
    End,
}

/// A place in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePart {
    /// After this many of its bytes, those of its header included. 0 is as soon as the frame before
    /// it has ended.
    Byte(u64),
    /// After its header.
    Payload,
    /// Before this many of its last bytes. Only if its header says how long it is.
    BeforeEnd(u64),
    /// After its last byte.
    End,
}

/// What happens at a place. The receiver is the side that the direction leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// The receiver gets exactly the bytes before the place, and then RST. The source gets RST at
    /// the same time.
    Reset,
    /// The receiver gets FIN, and what follows is dropped. The opposite direction goes on.
    Finish,
    /// Both sides get FIN, the receiver after the bytes before the place. What follows is dropped.
    Close,
    /// Nothing passes for so long, counted from when everything before was sent.
    Stall(Duration),
    /// Nothing passes from here on, and the source is no longer received from.
    Hold,
    /// What follows is received and dropped, FIN included.
    BlackHole,
    /// This many of the bytes that follow are dropped.
    Drop(u64),
    /// The bytes that follow are combined with these by exclusive or.
    Xor(Box<[u8]>),
    /// The bytes that follow are replaced by these.
    Set(Box<[u8]>),
    /// These bytes are sent before those that follow.
    Insert(Box<[u8]>),
    /// FIN is not passed on.
    SwallowFin,
    /// The length field of the frame that begins here says this instead. If that is too large for
    /// the field, its highest bytes are cut off.
    SetLength(u64),
}

/// A fault that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiredFault {
    /// Which one.
    pub rule: usize,
    /// After how many bytes from the source.
    pub position: u64,
    /// In which frame, from 1, and after how many of its bytes; `None` without frames.
    pub frame: Option<(u64, u64)>,
}

/// What stands between bytes of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Opens so long after it was reached.
    Stall(Duration),
    /// Opens then.
    Until(Timestamp),
    Hold,
    Finish,
    Close,
    Reset,
}

impl Gate {
    /// Whether nothing comes after it.
    const fn is_last(self) -> bool {
        matches!(self, Gate::Finish | Gate::Close | Gate::Reset | Gate::Hold)
    }
}

/// The faults of one direction, and how far its stream has come.
#[derive(Debug, Default)]
pub(super) struct FaultFlow {
    /// Bytes from the source.
    position: u64,
    /// Faults at known places, the next one last.
    armed: Vec<Armed>,
    frames: Option<FrameTracker>,
    /// Faults in frames that have not begun, or whose length is not known.
    in_frames: Vec<(u64, FramePart, usize, FaultAction)>,
    searches: Vec<(Search, usize, FaultAction)>,
    at_end: Vec<(usize, FaultAction)>,
    /// How many of the next bytes are dropped; `u64::MAX`: all of them.
    drop: u64,
    /// What is done to the next bytes, in this order.
    changes: Vec<ByteChange>,
    /// Where the output waits, and for what: positions count its bytes from the start.
    gates: VecDeque<(u64, Gate)>,
    /// Bytes of the output so far.
    output: u64,
    swallows_fin: bool,
    fired: Vec<FiredFault>,
}

/// A fault at a known place.
#[derive(Debug)]
struct Armed {
    at: u64,
    rule: usize,
    action: FaultAction,
    /// The frame that it must be in.
    frame: Option<u64>,
}

/// What is known of the place of a fault in a frame.
enum Placed {
    At(u64),
    Later,
    Never,
}

#[derive(Debug)]
struct ByteChange {
    /// How many bytes come before those that it changes.
    skip: usize,
    bytes: Box<[u8]>,
    done: usize,
    is_xor: bool,
}

impl FaultFlow {
    /// A direction with these faults, before its first byte. Without a format there are no frames.
    pub(super) fn new(faults: Vec<RelayFault>, format: Option<FrameFormat>) -> FaultFlow {
        let frames = format.map(FrameTracker::new);
        let mut flow = FaultFlow { frames, ..FaultFlow::default() };
        for RelayFault { rule, place, action } in faults {
            match place {
                FaultPlace::Byte(at) => flow.arm(Armed { at, rule, action, frame: None }),
                FaultPlace::Frame { number, part } => {
                    flow.in_frames.push((number, part, rule, action));
                }
                FaultPlace::Match(bytes) => {
                    flow.searches.extend(Search::new(bytes).map(|search| (search, rule, action)));
                }
                FaultPlace::End => flow.at_end.push((rule, action)),
            }
        }
        flow.at_end.sort_by_key(|(rule, _)| *rule);
        flow.begin_frame();
        flow
    }

    fn arm(&mut self, armed: Armed) {
        let is_later = |other: &Armed| (other.at, other.rule) > (armed.at, armed.rule);
        let before = self.armed.partition_point(is_later);
        self.armed.insert(before, armed);
    }

    /// Takes bytes that pass unchanged, and among and after which nothing happens; `false`: that is
    /// not so, and nothing was done.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> bool {
        let next = self.armed.last().map_or(u64::MAX, |armed| armed.at);
        let is_quiet = next > self.position + bytes.len() as u64
            && self.drop == 0
            && self.changes.is_empty()
            && self.gates.is_empty()
            && self.searches.is_empty()
            && self.in_frames.is_empty();
        if !is_quiet {
            return false;
        }
        self.follow(bytes);
        self.output += bytes.len() as u64;
        true
    }

    /// Goes on by these bytes, whatever becomes of them.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let reach = self.frames.as_ref().map(|frames| frames.reach(self.position, rest));
            let (now, later) = rest.split_at(reach.unwrap_or(rest.len()));
            self.follow_frames(now);
            rest = later;
        }
    }

    /// Goes on by bytes that come before the next event of the frames at most.
    fn follow_frames(&mut self, bytes: &[u8]) {
        self.position += bytes.len() as u64;
        let Some(frames) = &mut self.frames else { return };
        frames.advance(self.position, bytes);
        while let Some(event) = self.frames.as_mut().and_then(|it| it.next_event(self.position)) {
            match event {
                FrameEvent::Header => self.resolve(),
                FrameEvent::End => self.begin_frame(),
                FrameEvent::Lost => {
                    self.in_frames.clear();
                    self.armed.retain(|armed| armed.frame.is_none());
                }
            }
        }
    }

    /// A frame begins here: arms what is at a known distance from its start, and what the end of
    /// the one before it was waited for. What that one was too short for never happens.
    fn begin_frame(&mut self) {
        let Some(FrameTracker { number, start, .. }) = self.frames else { return };
        self.armed
            .retain(|armed| armed.at <= start || armed.frame.is_none_or(|frame| frame >= number));
        self.arm_in_frames(|of, part| match part {
            FramePart::Byte(count) if of == number => {
                start.checked_add(count).map_or(Placed::Never, Placed::At)
            }
            FramePart::End if number.checked_sub(1) == Some(of) => Placed::At(start),
            // It has come, and was too short, or its header does not say how long it is.
            _ if of < number => Placed::Never,
            _ => Placed::Later,
        });
    }

    /// The header of the current frame is whole: arms what is at a known distance from its end.
    fn resolve(&mut self) {
        let Some(FrameTracker { number, end: Some(end), .. }) = self.frames else { return };
        let position = self.position;
        self.arm_in_frames(|of, part| match part {
            FramePart::Payload if of == number => Placed::At(position),
            FramePart::BeforeEnd(count) if of == number => {
                // In the header it would have been passed already.
                let at = end.checked_sub(count).filter(|at| *at >= position);
                at.map_or(Placed::Never, Placed::At)
            }
            _ => Placed::Later,
        });
    }

    /// Arms the faults in frames whose places are known now.
    fn arm_in_frames(&mut self, place: impl Fn(u64, FramePart) -> Placed) {
        for (of, part, rule, action) in core::mem::take(&mut self.in_frames) {
            match place(of, part) {
                Placed::At(at) => self.arm(Armed { at, rule, action, frame: Some(of) }),
                Placed::Later => self.in_frames.push((of, part, rule, action)),
                Placed::Never => {}
            }
        }
    }

    /// Takes bytes from the source, and appends what becomes of them to the output. Without bytes:
    /// does what happens before the first one.
    pub(super) fn process(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            self.fire_due(output);
            if rest.is_empty() {
                return;
            }
            let next = self.armed.last().map_or(u64::MAX, |armed| armed.at);
            let until = usize::try_from(next - self.position).unwrap_or(usize::MAX);
            let mut count = rest.len().min(until);
            for (search, ..) in &self.searches {
                count = search.next_end(&rest[..count]).unwrap_or(count);
            }
            if let Some(frames) = &self.frames {
                count = frames.reach(self.position, &rest[..count]);
            }
            let (now, later) = rest.split_at(count);
            self.put(now, output);
            self.follow_frames(now);
            self.find(now);
            rest = later;
        }
    }

    /// Takes the end of the source's stream.
    pub(super) fn process_end(&mut self, output: &mut Vec<u8>) {
        for (rule, action) in core::mem::take(&mut self.at_end) {
            self.fire(rule, action, output);
        }
    }

    /// Arms what was searched for and ends with these bytes, so that it happens here.
    fn find(&mut self, bytes: &[u8]) {
        let mut index = 0;
        while index < self.searches.len() {
            if self.searches[index].0.advance(bytes) {
                let (_, rule, action) = self.searches.remove(index);
                self.arm(Armed { at: self.position, rule, action, frame: None });
            } else {
                index += 1;
            }
        }
    }

    fn fire_due(&mut self, output: &mut Vec<u8>) {
        while self.armed.last().is_some_and(|armed| armed.at <= self.position) {
            if let Some(Armed { rule, action, .. }) = self.armed.pop() {
                self.fire(rule, action, output);
            }
        }
    }

    fn fire(&mut self, rule: usize, action: FaultAction, output: &mut Vec<u8>) {
        // After the end there is no place in the output at which anything could happen.
        if self.is_over() {
            return;
        }
        let position = self.position;
        let frame = self.frames.as_ref().and_then(|frames| frames.place(position));
        self.fired.push(FiredFault { rule, position, frame });
        match action {
            FaultAction::Stall(time) => self.gate(Gate::Stall(time)),
            FaultAction::Hold => self.end(Gate::Hold),
            FaultAction::Finish => self.end(Gate::Finish),
            FaultAction::Close => self.end(Gate::Close),
            FaultAction::Reset => self.end(Gate::Reset),
            FaultAction::BlackHole => (self.drop, self.swallows_fin) = (u64::MAX, true),
            FaultAction::Drop(count) => self.drop = self.drop.saturating_add(count),
            FaultAction::Xor(bytes) => self.change(0, bytes, true),
            FaultAction::Set(bytes) => self.change(0, bytes, false),
            FaultAction::Insert(bytes) => {
                output.extend_from_slice(&bytes);
                self.output += bytes.len() as u64;
            }
            FaultAction::SwallowFin => self.swallows_fin = true,
            FaultAction::SetLength(value) => self.set_length(value),
        }
    }

    /// Replaces the length field of the frame that begins here; the bytes before it stay.
    fn set_length(&mut self, value: u64) {
        let format = self.frames.as_ref().and_then(FrameTracker::length_format);
        let Some(format) = format else { return };
        let mut header = Vec::new();
        format.encode_raw(value, &mut header);
        self.change(format.length_at().start, header[format.length_at()].into(), false);
    }

    fn change(&mut self, skip: usize, bytes: Box<[u8]>, is_xor: bool) {
        self.changes.push(ByteChange { skip, bytes, done: 0, is_xor });
    }

    fn gate(&mut self, gate: Gate) {
        self.gates.push_back((self.output, gate));
    }

    fn end(&mut self, gate: Gate) {
        self.gate(gate);
        self.drop = u64::MAX;
    }

    fn is_over(&self) -> bool {
        self.gates.back().is_some_and(|(_, gate)| gate.is_last())
    }

    /// Appends what becomes of the next bytes, at none of which anything happens.
    fn put(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        if self.drops_all() {
            return;
        }
        let start = output.len();
        output.extend_from_slice(bytes);
        for change in &mut self.changes {
            let skipped = change.skip.min(bytes.len());
            change.skip -= skipped;
            let changed = output[start + skipped..].iter_mut().zip(&change.bytes[change.done..]);
            let mut count = 0;
            for (byte, with) in changed {
                *byte = if change.is_xor { *byte ^ with } else { *with };
                count += 1;
            }
            change.done += count;
        }
        self.changes.retain(|change| change.done < change.bytes.len());
        let dropped = self.drop.min(bytes.len() as u64);
        self.drop -= dropped;
        // No more than there are bytes.
        output.drain(start..start + dropped as usize);
        self.output += bytes.len() as u64 - dropped;
    }

    /// Whether nothing comes out of the bytes that follow.
    pub(super) fn drops_all(&self) -> bool {
        self.drop == u64::MAX
    }

    /// Whether anything waits at a gate.
    pub(super) fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }

    /// How many bytes of the output are ahead of the first gate, after so many of them were sent.
    pub(super) fn ahead(&self, sent: u64) -> usize {
        let ahead = self.gates.front().map_or(u64::MAX, |(at, _)| at - sent);
        usize::try_from(ahead).unwrap_or(usize::MAX)
    }

    /// Opens the gates that can be opened now, once so many bytes were sent; the one that is
    /// reached and stays closed.
    pub(super) fn reached(&mut self, sent: u64, now: Timestamp) -> Option<Gate> {
        while let Some((at, gate)) = self.gates.front_mut() {
            if *at > sent {
                return None;
            }
            match gate {
                Gate::Stall(time) => *gate = Gate::Until(now + *time),
                Gate::Until(time) if *time <= now => {
                    self.gates.pop_front();
                }
                _ => return Some(*gate),
            }
        }
        None
    }

    /// The gate that is reached once so many bytes were sent, opened or not.
    pub(super) fn at_gate(&self, sent: u64) -> Option<Gate> {
        self.gates.front().filter(|(at, _)| *at == sent).map(|(_, gate)| *gate)
    }

    /// Whether the source's FIN is passed on once everything was sent.
    pub(super) fn swallows_fin(&self) -> bool {
        self.swallows_fin
    }

    /// Where the stream stopped making sense, once.
    pub(super) fn take_lost(&mut self) -> Option<LostFraming> {
        self.frames.as_mut()?.take_lost()
    }

    /// Frames that have come whole.
    pub(super) fn frames(&self) -> Option<u64> {
        self.frames.as_ref().map(FrameTracker::whole)
    }

    /// What has happened since the last call.
    pub(super) fn take_fired(&mut self) -> Vec<FiredFault> {
        core::mem::take(&mut self.fired)
    }
}

#[cfg(test)]
mod tests;
