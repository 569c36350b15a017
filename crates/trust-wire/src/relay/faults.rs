//! What a relay does to one direction on purpose, at exact places of its stream.
//!
//! Every place counts the bytes that came from the source, before any fault changed them, so it
//! does not depend on how the network cut the stream, nor on other faults.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Timestamp;

mod search;

use self::search::Search;

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
    /// After so many bytes.
    Byte(u64),
    /// After the first occurrence of these bytes; never if there are none.
    Match(Box<[u8]>),
    /// After the last byte, if the stream ends with FIN.
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
    /// So many of the bytes that follow are dropped.
    Drop(u64),
    /// The bytes that follow are combined with these by exclusive or.
    Xor(Box<[u8]>),
    /// The bytes that follow are replaced by these.
    Set(Box<[u8]>),
    /// These bytes are sent before those that follow.
    Insert(Box<[u8]>),
    /// FIN is not passed on.
    SwallowFin,
}

/// A fault that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiredFault {
    /// Which one.
    pub rule: usize,
    /// After how many bytes from the source.
    pub position: u64,
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
        matches!(self, Gate::Finish | Gate::Close | Gate::Reset)
    }
}

/// The faults of one direction, and how far its stream has come.
#[derive(Debug, Default)]
pub(super) struct FaultFlow {
    /// Bytes from the source.
    position: u64,
    /// Faults at known places, the next one last.
    armed: Vec<(u64, usize, FaultAction)>,
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

#[derive(Debug)]
struct ByteChange {
    bytes: Box<[u8]>,
    done: usize,
    is_xor: bool,
}

impl FaultFlow {
    /// A direction with these faults, before its first byte.
    pub(super) fn new(faults: Vec<RelayFault>) -> FaultFlow {
        let mut flow = FaultFlow::default();
        for RelayFault { rule, place, action } in faults {
            match place {
                FaultPlace::Byte(at) => flow.armed.push((at, rule, action)),
                FaultPlace::Match(bytes) => {
                    flow.searches.extend(Search::new(bytes).map(|search| (search, rule, action)));
                }
                FaultPlace::End => flow.at_end.push((rule, action)),
            }
        }
        flow.armed.sort_by_key(|(at, rule, _)| core::cmp::Reverse((*at, *rule)));
        flow.at_end.sort_by_key(|(rule, _)| *rule);
        flow
    }

    /// Whether so many bytes pass unchanged, and nothing happens among them or after the last one.
    pub(super) fn passes(&self, count: usize) -> bool {
        let next = self.armed.last().map_or(u64::MAX, |(at, ..)| *at);
        next > self.position + count as u64
            && self.drop == 0
            && self.changes.is_empty()
            && self.gates.is_empty()
            && self.searches.is_empty()
    }

    /// Records bytes that pass.
    pub(super) fn pass(&mut self, count: usize) {
        self.position += count as u64;
        self.output += count as u64;
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
            let next = self.armed.last().map_or(u64::MAX, |(at, ..)| *at);
            let until = usize::try_from(next - self.position).unwrap_or(usize::MAX);
            let mut count = rest.len().min(until);
            for (search, ..) in &self.searches {
                count = search.next_end(&rest[..count]).unwrap_or(count);
            }
            let (now, later) = rest.split_at(count);
            self.put(now, output);
            self.position += count as u64;
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
                let place = |(at, other, _): &(u64, usize, FaultAction)| {
                    (*at, *other) > (self.position, rule)
                };
                let before = self.armed.partition_point(place);
                self.armed.insert(before, (self.position, rule, action));
            } else {
                index += 1;
            }
        }
    }

    fn fire_due(&mut self, output: &mut Vec<u8>) {
        while self.armed.last().is_some_and(|(at, ..)| *at <= self.position) {
            if let Some((_, rule, action)) = self.armed.pop() {
                self.fire(rule, action, output);
            }
        }
    }

    fn fire(&mut self, rule: usize, action: FaultAction, output: &mut Vec<u8>) {
        // What was dropped has no place in the output at which anything could happen, and after the
        // end there is none at all.
        if self.is_over() {
            return;
        }
        self.fired.push(FiredFault { rule, position: self.position });
        match action {
            FaultAction::Stall(time) => self.gate(Gate::Stall(time)),
            FaultAction::Hold => self.gate(Gate::Hold),
            FaultAction::Finish => self.end(Gate::Finish),
            FaultAction::Close => self.end(Gate::Close),
            FaultAction::Reset => self.end(Gate::Reset),
            FaultAction::BlackHole => (self.drop, self.swallows_fin) = (u64::MAX, true),
            FaultAction::Drop(count) => self.drop = self.drop.saturating_add(count),
            FaultAction::Xor(bytes) => {
                self.changes.push(ByteChange { bytes, done: 0, is_xor: true })
            }
            FaultAction::Set(bytes) => {
                self.changes.push(ByteChange { bytes, done: 0, is_xor: false })
            }
            FaultAction::Insert(bytes) => {
                output.extend_from_slice(&bytes);
                self.output += bytes.len() as u64;
            }
            FaultAction::SwallowFin => self.swallows_fin = true,
        }
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
        let start = output.len();
        output.extend_from_slice(bytes);
        for change in &mut self.changes {
            let changed = output[start..].iter_mut().zip(&change.bytes[change.done..]);
            for (byte, with) in changed {
                *byte = if change.is_xor { *byte ^ with } else { *with };
                change.done += 1;
            }
        }
        self.changes.retain(|change| change.done < change.bytes.len());
        let dropped = self.drop.min(bytes.len() as u64);
        if self.drop != u64::MAX {
            self.drop -= dropped;
        }
        // No more than there are bytes.
        output.drain(start..start + dropped as usize);
        self.output += bytes.len() as u64 - dropped;
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

    /// What has happened since the last call.
    pub(super) fn take_fired(&mut self) -> Vec<FiredFault> {
        core::mem::take(&mut self.fired)
    }
}

#[cfg(test)]
mod tests;
