//! A relay between two connections: what came from one goes to the other, and so does its end.
//!
//! A relay must not change how a stream ends, because that is part of what the stream says. So a
//! FIN goes on as a FIN after the last byte, while the other direction lives on (half-close, RFC
//! 9293, section 3.6), and a RST goes on as a RST once everything that came before it was
//! delivered. A plain close would replace one by the other, and lose what is still on its way.
//!
//! [`Relay`] makes these decisions and does no I/O; [`RelayTurn`] makes the calls.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use crate::disconnect::ErrnoClass;
use crate::time::Timestamp;

mod bulk;
mod faults;
mod held;
mod turn;

use self::bulk::BULK_MIN;
use self::faults::{FaultFlow, Gate, HOLD_DEFAULT};
use self::held::HeldBytes;

pub use self::bulk::SPLICE_MAX;
pub use self::faults::{
    Chance, FaultAction, FaultPlace, FiredFault, FrameFormat, FrameOpening, FramePart, LostFraming,
    RelayFault, SharedRate, draw, flip_mask,
};
pub use self::turn::{RelayIo, RelayStep, RelayTurn};

/// The longest wait for delivery in all, as a multiple of the limit on waiting without progress:
/// a receiver that reads a byte now and then must not hold a connection for ever.
const WAITS_IN_ALL: u32 = 5;

/// The pause before delivery is looked at again; it doubles from the first to the last. The kernel
/// does not report that bytes were acknowledged.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(50);

/// One of the two connections of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelaySide {
    /// The one that the client opened.
    Client,
    /// The one that the relay opened for it.
    Upstream,
}

impl RelaySide {
    /// Both of them.
    pub const BOTH: [RelaySide; 2] = [RelaySide::Client, RelaySide::Upstream];

    /// The other one.
    pub const fn other(self) -> RelaySide {
        match self {
            RelaySide::Client => RelaySide::Upstream,
            RelaySide::Upstream => RelaySide::Client,
        }
    }

    /// Its place in a pair.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How a side's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// It has not ended.
    None,
    /// FIN.
    Fin,
    /// The connection failed, with this errno and class.
    Failed(i32, ErrnoClass),
}

/// What to do with the socket of a side when the relay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayClose {
    /// Close it. Everything that was sent is left to the kernel, FIN included.
    Close,
    /// Close it with RST, which drops what is queued.
    Reset,
}

/// What was relayed to a side, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Bytes that came from the other side.
    pub received: u64,
    /// Bytes that this side should get: those, but for what faults did to them.
    pub due: u64,
    /// Bytes that the kernel took for this side.
    pub sent: u64,
}

/// One relayed connection.
///
/// ```
/// use std::time::Duration;
/// use trust_wire::Timestamp;
/// use trust_wire::relay::{Relay, RelaySide, StreamEnd};
///
/// let mut relay = Relay::new(Duration::from_secs(2));
/// assert!(relay.wants_receive(RelaySide::Client));
/// let forwarded = relay.handle_received(RelaySide::Client, b"hello");
/// assert_eq!(forwarded, b"hello");
///
/// // The kernel takes two of them, and the rest is held: nothing more is received from the client.
/// relay.handle_forwarded(RelaySide::Upstream, b"hello", 2);
/// assert_eq!(relay.sendable(RelaySide::Upstream), b"llo");
/// assert!(!relay.wants_receive(RelaySide::Client) && relay.wants_receive(RelaySide::Upstream));
///
/// relay.handle_sent(RelaySide::Upstream, 3);
/// relay.handle_end_of_stream(RelaySide::Client);
/// assert_eq!(relay.poll_shutdown(), Some(RelaySide::Upstream));
/// assert_eq!(relay.end(RelaySide::Client), StreamEnd::Fin);
/// // The answer may still come.
/// assert!(relay.wants_receive(RelaySide::Upstream));
/// ```
#[derive(Debug)]
pub struct Relay {
    sides: [SideState; 2],
    linger_timeout: Duration,
    /// How many bytes may be held for a side that are delayed.
    hold: usize,
    /// The side that failed first.
    failed_first: Option<RelaySide>,
    /// The end that was decided without either side.
    imposed: Option<ImposedEnd>,
    wait: Option<Wait>,
}

#[derive(Debug)]
struct SideState {
    /// How its stream ended.
    end: StreamEnd,
    /// RST has come, and there may be bytes before it that were not received yet.
    is_failing: bool,
    sending: Sending,
    /// FIN was sent to it, whatever came then.
    fin_sent: bool,
    /// Bytes for it that the kernel has not taken.
    held: HeldBytes,
    /// Bytes for it that are in its pipe, in place of such.
    piped: usize,
    /// Many bytes come for it at once.
    is_bulk: bool,
    delivery: Delivery,
    /// What happens on purpose to what comes for it.
    faults: Option<Box<FaultFlow>>,
    /// Bytes before this position pass unchanged, and are not shown to the faults.
    quiet_until: u64,
    /// What the faults do depends on the time.
    is_timed: bool,
    /// The faults have something to report.
    has_news: bool,
}

/// An end that does not come from one of the sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ImposedEnd {
    /// FIN for both, whose own FIN is waited for as delivery is.
    Close,
    /// RST for both, once this side has what it should get before it.
    Reset(RelaySide),
    /// RST for these, and FIN for the other one, if there is one, once both have what they should
    /// get before it.
    ResetSides([bool; 2]),
}

impl ImposedEnd {
    /// Whether a side gets FIN.
    const fn finishes(self, side: RelaySide) -> bool {
        match self {
            ImposedEnd::Close => true,
            ImposedEnd::Reset(_) => false,
            ImposedEnd::ResetSides(sides) => !sides[side.index()],
        }
    }
}

/// Whether a side can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    /// FIN was sent.
    Finished,
    /// A send failed.
    Broken(i32, ErrnoClass),
}

/// The wait for delivery before a close.
#[derive(Clone, Copy, Debug)]
struct Wait {
    began: Timestamp,
    /// When a side had acknowledged more than before.
    progress: Timestamp,
    /// What each side has acknowledged, its FIN included; 0 for one that fails.
    acknowledged: [u64; 2],
    look_again: Timestamp,
    pause: Duration,
}

impl SideState {
    const fn new() -> SideState {
        SideState {
            end: StreamEnd::None,
            is_failing: false,
            sending: Sending::Open,
            fin_sent: false,
            held: HeldBytes::new(),
            piped: 0,
            is_bulk: false,
            delivery: Delivery { received: 0, due: 0, sent: 0 },
            faults: None,
            quiet_until: u64::MAX,
            is_timed: false,
            has_news: false,
        }
    }

    /// The faults, if what they do depends on the time. So each step of a connection leaves those
    /// alone that are far away.
    fn timed_faults(&self) -> Option<&FaultFlow> {
        if self.is_timed { self.faults.as_deref() } else { None }
    }

    /// It failed, and everything that came before was received.
    fn is_gone(&self) -> bool {
        self.is_failing && self.end != StreamEnd::None
    }

    /// Whether a rule has it wait for a time to come.
    fn is_stalled(&self) -> bool {
        let (sent, held) = (self.delivery.sent, self.held.len());
        self.sending == Sending::Open
            && self.timed_faults().is_some_and(|faults| faults.timing.is_waiting(sent, held))
    }

    /// Whether the kernel has taken all that came for it.
    fn holds_nothing(&self) -> bool {
        self.held.is_empty() && self.piped == 0
    }

    /// Whether something can be sent now.
    fn is_sendable(&self) -> bool {
        !self.sendable().is_empty() || self.piped > 0
    }

    /// What can be sent now with one call.
    fn sendable(&self) -> &[u8] {
        let next = self.held.next();
        let Some(faults) = self.timed_faults() else { return next };
        &next[..next.len().min(faults.timing.ahead(self.delivery.sent))]
    }

    /// The gate that it waits at, with everything before it sent.
    fn gate(&self) -> Option<Gate> {
        self.timed_faults()?.timing.at_gate(self.delivery.sent).cloned()
    }

    fn is_gated(&self) -> bool {
        self.timed_faults().is_some_and(|faults| !faults.timing.gates.is_empty())
    }

    /// Whether more may be received for it.
    fn has_room(&self) -> bool {
        match self.timed_faults() {
            None => self.holds_nothing(),
            Some(faults) => faults.timing.has_room(self.held.len()),
        }
    }

    /// Has a fault change what is held for it.
    fn fault(&mut self, happen: impl FnOnce(&mut FaultFlow, &mut Vec<u8>)) {
        let Some(faults) = &mut self.faults else { return };
        faults.skip_to(self.delivery.received);
        let in_one = faults.timing.is_paced();
        let added = self.held.append(in_one, |held| happen(faults, held));
        self.delivery.due += added as u64;
        faults.timing.note_held(self.held.len());
        self.note_faults();
    }

    /// Records what each step must know of the faults, after they have changed.
    fn note_faults(&mut self) {
        let Some(faults) = &self.faults else { return };
        self.is_timed = faults.needs_time();
        // What is held goes first.
        let is_quiet = !self.is_timed && self.held.is_empty();
        self.quiet_until = if is_quiet { faults.quiet_until() } else { 0 };
        self.has_news |= faults.has_news();
    }

    /// Shows bytes to the faults; returns whether they pass unchanged. Otherwise what becomes of
    /// them is held.
    fn show(&mut self, bytes: &[u8]) -> bool {
        let is_open = self.sending == Sending::Open;
        // What is held goes first.
        let mut passes = self.held.is_empty();
        self.fault(|faults, held| {
            if !is_open {
                faults.follow(bytes);
                passes = !faults.drops_all();
                return;
            }
            faults.note_received();
            passes = passes && faults.pass(bytes);
            if !passes {
                faults.process(bytes, held);
            }
        });
        passes
    }

    /// Whether a rule drops everything that comes for it.
    fn drops_all(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.drops_all())
    }

    fn swallows_fin(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.swallows_fin())
    }

    fn drop_held(&mut self) {
        (self.held, self.piped) = (HeldBytes::new(), 0);
    }
}

impl Relay {
    /// A relay of two open connections. Before a close it waits for delivery as long as there is
    /// progress at least every `linger_timeout`, and five times that in all.
    pub const fn new(linger_timeout: Duration) -> Relay {
        let sides = [SideState::new(), SideState::new()];
        let hold = HOLD_DEFAULT;
        Relay { sides, linger_timeout, hold, failed_first: None, imposed: None, wait: None }
    }

    /// Holds at most so many bytes for a side that are delayed on purpose; 32 MiB otherwise. To be
    /// called before faults are armed.
    #[must_use]
    pub const fn with_hold(mut self, bytes: usize) -> Relay {
        self.hold = bytes;
        self
    }

    /// Has these faults happen to what goes to a side, from its first byte on, and counts its
    /// frames if there is a format. To be called before anything is received.
    pub fn arm(&mut self, to: RelaySide, faults: Vec<RelayFault>, format: Option<FrameFormat>) {
        if faults.is_empty() && format.is_none() {
            return;
        }
        let mut flow = Box::new(FaultFlow::new(faults, format));
        flow.timing.set_hold(self.hold);
        let side = self.side_mut(to);
        side.faults = Some(flow);
        side.fault(|faults, held| {
            // Otherwise it happens when the time is known.
            if !faults.needs_time() {
                faults.process(&[], held);
            }
        });
    }

    /// Ends what the rules of these numbers do to what goes to a side, and has these faults happen
    /// to it, while bytes flow: places count from the start of the stream, and those that have been
    /// passed do not come; times count from when it was first armed. What is held is sent as the
    /// rules say that there are now. An end that has been reached, bytes that were dropped and
    /// changes that have begun cannot be taken back.
    ///
    /// What is in the pipe of a side must be taken out first: [`Relay::handle_unpiped`].
    pub fn rearm(
        &mut self,
        to: RelaySide,
        now: Timestamp,
        disarmed: &[usize],
        faults: Vec<RelayFault>,
    ) {
        let hold = self.hold;
        let side = self.side_mut(to);
        if side.sending != Sending::Open {
            // Nothing can happen to it any longer.
            if let Some(flow) = &mut side.faults {
                flow.disarm(disarmed);
            }
            return;
        }
        if side.faults.is_none() && faults.is_empty() {
            return;
        }
        let flow = side.faults.get_or_insert_with(|| {
            let mut flow = Box::new(FaultFlow::new(Vec::new(), None));
            flow.timing.set_hold(hold);
            flow
        });
        flow.timing.set_now(now);
        let sent = side.delivery.sent;
        side.fault(|flow, held| flow.rearm(disarmed, faults, sent, held));
    }

    /// Where the stream to a side is: how many bytes have come, and how long it has been armed.
    pub fn place(&self, to: RelaySide, now: Timestamp) -> (u64, Duration) {
        let side = self.side(to);
        let began = side.faults.as_ref().and_then(|faults| faults.timing.has_begun());
        (side.delivery.received, began.map_or(Duration::ZERO, |began| now.since(began)))
    }

    /// The rules that may still do something to what goes to a side, or have begun something that
    /// goes on.
    pub fn rules(&self, to: RelaySide) -> BTreeSet<usize> {
        self.side(to).faults.as_ref().map_or_else(BTreeSet::new, |faults| faults.rules())
    }

    /// Drops what is held for a side.
    pub fn drop_held(&mut self, to: RelaySide) {
        let side = self.side_mut(to);
        side.drop_held();
        side.delivery.due = side.delivery.sent;
        let Delivery { received, sent, .. } = side.delivery;
        if let Some(faults) = &mut side.faults {
            faults.skip_to(received);
            faults.skip_held(sent);
        }
        side.note_faults();
    }

    /// Ends both sides with FIN, unless the end is decided. Nothing more is passed on, and what is
    /// held is dropped.
    pub fn finish(&mut self) {
        for to in RelaySide::BOTH {
            if let Some(flow) = &mut self.side_mut(to).faults {
                flow.disarm_all();
            }
            self.drop_held(to);
        }
        self.imposed.get_or_insert(ImposedEnd::Close);
    }

    /// Whether faults have happened, frames stopped making sense or as much is held as may be since
    /// the last call: then [`Relay::take_fired`], [`Relay::take_lost`] and [`Relay::take_full`] say
    /// what, and of which side.
    pub fn take_news(&mut self) -> bool {
        let news = self.sides.each_mut().map(|side| core::mem::take(&mut side.has_news));
        news[0] || news[1]
    }

    /// Whether as much is held for a side as may be; true once each time it comes to that.
    pub fn take_full(&mut self, to: RelaySide) -> bool {
        self.side_mut(to).faults.as_mut().is_some_and(|faults| faults.timing.take_full())
    }

    /// When what was sent last to a side was due, if a time that a fault set said so.
    pub fn take_due(&mut self, to: RelaySide) -> Option<Timestamp> {
        self.side_mut(to).faults.as_mut()?.timing.take_due()
    }

    /// Whether a rule drops everything that comes for a side from here on.
    pub fn drops_all(&self, to: RelaySide) -> bool {
        self.side(to).drops_all()
    }

    /// How many whole frames came for a side; `None` without a format.
    pub fn frames(&self, to: RelaySide) -> Option<u64> {
        self.side(to).faults.as_ref()?.frames()
    }

    /// Where the frames of what goes to a side stopped making sense, once.
    pub fn take_lost(&mut self, to: RelaySide) -> Option<LostFraming> {
        self.side_mut(to).faults.as_mut()?.take_lost()
    }

    /// The faults of what goes to a side that have happened since the last call.
    pub fn take_fired(&mut self, to: RelaySide) -> Vec<FiredFault> {
        let faults = self.side_mut(to).faults.as_mut();
        faults.map_or(Vec::new(), |faults| faults.take_fired())
    }

    /// A client whose upstream cannot be reached: it gets FIN, what it sends is dropped, and its
    /// own FIN is waited for as delivery is.
    pub const fn refusal(linger_timeout: Duration) -> Relay {
        let mut relay = Relay::new(linger_timeout);
        relay.imposed = Some(ImposedEnd::Close);
        relay.sides[RelaySide::Upstream.index()].end = StreamEnd::Fin;
        relay.sides[RelaySide::Upstream.index()].sending = Sending::Finished;
        relay
    }

    fn side(&self, side: RelaySide) -> &SideState {
        &self.sides[side.index()]
    }

    fn side_mut(&mut self, side: RelaySide) -> &mut SideState {
        &mut self.sides[side.index()]
    }

    /// How the stream of a side ended.
    pub fn end(&self, side: RelaySide) -> StreamEnd {
        match (self.side(side).end, self.side(side).sending) {
            // Its FIN came first, but that is not all that there is to say.
            (StreamEnd::Fin | StreamEnd::None, Sending::Broken(errno, class)) => {
                StreamEnd::Failed(errno, class)
            }
            (end, _) => end,
        }
    }

    /// The side that failed first, if one did.
    pub fn failed_first(&self) -> Option<RelaySide> {
        self.failed_first
    }

    /// Whether FIN was sent to a side.
    pub fn is_fin_sent(&self, side: RelaySide) -> bool {
        self.side(side).fin_sent
    }

    /// Whether a side failed, even if that is known only from an event.
    pub fn is_failing(&self, side: RelaySide) -> bool {
        self.side(side).is_failing
    }

    /// What was relayed to a side.
    pub fn delivery(&self, side: RelaySide) -> Delivery {
        self.side(side).delivery
    }

    /// Bytes for a side that the kernel has not taken, but for those in its pipe; in blocks.
    pub fn held(&self, side: RelaySide) -> impl Iterator<Item = &[u8]> {
        self.side(side).held.blocks()
    }

    /// How many bytes for a side the kernel has not taken, those in its pipe included.
    pub fn held_len(&self, side: RelaySide) -> usize {
        self.side(side).held.len() + self.side(side).piped
    }

    /// Held bytes for a side that nothing keeps from being sent with one call.
    pub fn sendable(&self, side: RelaySide) -> &[u8] {
        self.side(side).sendable()
    }

    /// Whether held bytes can be sent to a side.
    pub fn wants_send(&self, side: RelaySide) -> bool {
        self.side(side).sending == Sending::Open && self.side(side).is_sendable()
    }

    /// Whether to receive from a side. Not while something is held for the other one, unless it is
    /// delayed: that is all the back-pressure there is, and it bounds what is held to one receive.
    pub fn wants_receive(&self, side: RelaySide) -> bool {
        let other = self.side(side.other());
        self.side(side).end == StreamEnd::None
            && (other.has_room() || other.sending != Sending::Open)
    }

    /// How many bytes to receive from a side at once at most.
    pub fn receive_limit(&self, side: RelaySide) -> usize {
        let faults = self.side(side.other()).faults.as_ref();
        let window = faults.and_then(|faults| faults.window()).unwrap_or(u64::MAX);
        usize::try_from(window).unwrap_or(usize::MAX)
    }

    /// Records what was received from a side; returns what must be sent on. That is nothing if the
    /// other side cannot be sent to: then the bytes are dropped, so that the peer is not kept from
    /// reading what it is still owed.
    pub fn handle_received<'a>(&mut self, from: RelaySide, bytes: &'a [u8]) -> &'a [u8] {
        let to = self.side_mut(from.other());
        let position = to.delivery.received + bytes.len() as u64;
        let passes = position < to.quiet_until || to.show(bytes);
        to.delivery.received = position;
        to.is_bulk = bytes.len() >= BULK_MIN;
        if passes {
            to.delivery.due += bytes.len() as u64;
        }
        if passes && to.sending == Sending::Open { bytes } else { &[] }
    }

    /// Records that the kernel took the first `sent` of these bytes for a side, and holds the rest.
    ///
    /// # Panics
    ///
    /// If more was sent than there was, or something is held already.
    pub fn handle_forwarded(&mut self, to: RelaySide, bytes: &[u8], sent: usize) {
        let side = self.side_mut(to);
        assert!(bytes.is_empty() || side.held.is_empty(), "what is held goes first");
        side.delivery.sent += sent as u64;
        if sent < bytes.len() {
            side.held.append(true, |held| held.extend_from_slice(&bytes[sent..]));
        }
    }

    /// Records that the kernel took this many of the held bytes.
    ///
    /// # Panics
    ///
    /// If fewer were held.
    pub fn handle_sent(&mut self, to: RelaySide, sent: usize) {
        let side = self.side_mut(to);
        side.delivery.sent += sent as u64;
        side.held.remove(sent);
        if let Some(faults) = &mut side.faults {
            faults.timing.handle_sent(sent, side.held.len());
        }
    }

    /// Records the FIN of a side.
    pub fn handle_end_of_stream(&mut self, side: RelaySide) {
        self.side_mut(side).end = match self.side(side).sending {
            // The kernel calls it the end of the stream after a RST too, once a send has reported
            // that. EPIPE says that the FIN had come first.
            Sending::Broken(errno, class) if class != ErrnoClass::BrokenPipe => {
                StreamEnd::Failed(errno, class)
            }
            _ => StreamEnd::Fin,
        };
        if self.side(side).end != StreamEnd::Fin {
            return self.release_kept(side.other());
        }
        let to = self.side_mut(side.other());
        if to.sending == Sending::Open {
            to.fault(|faults, held| faults.process_end(held));
        }
    }

    /// Whether what happens depends on the time, so that [`Relay::handle_time`] must be called
    /// before anything else is done, and before received bytes are recorded.
    pub fn needs_time(&self) -> bool {
        self.sides.iter().any(|side| side.is_timed)
    }

    /// Does what happens when nothing has come for a while, once everything that has come was
    /// received; whether there was such a thing.
    pub fn handle_idle(&mut self, now: Timestamp) -> bool {
        let mut has_happened = false;
        for to in RelaySide::BOTH {
            let side = self.side_mut(to);
            let is_read = side.has_room();
            if side.sending == Sending::Open {
                side.fault(|faults, held| {
                    has_happened |= faults.handle_idle(now, is_read, held);
                });
            }
        }
        has_happened
    }

    /// Records whether a side takes bytes now: meanwhile it has no part of a rate that it shares.
    pub fn note_writable(&mut self, to: RelaySide, is_writable: bool) {
        if let Some(faults) = &mut self.side_mut(to).faults {
            faults.timing.note_writable(is_writable);
        }
    }

    /// Does what is due by now.
    pub fn handle_time(&mut self, now: Timestamp) {
        for to in RelaySide::BOTH {
            let side = self.side_mut(to);
            if side.sending == Sending::Open {
                side.fault(|faults, held| faults.handle_time(now, held));
            }
            let (sent, held) = (side.delivery.sent, side.held.len());
            let gate = side.faults.as_mut().and_then(|faults| faults.timing.open(sent, held));
            side.note_faults();
            let imposed = match gate {
                Some(Gate::Reset) => ImposedEnd::Reset(to),
                Some(Gate::ResetSides(sides)) => ImposedEnd::ResetSides(sides),
                Some(Gate::Close) => ImposedEnd::Close,
                _ => continue,
            };
            self.imposed.get_or_insert(imposed);
        }
    }

    /// Records that receiving from a side failed.
    pub fn handle_receive_error(&mut self, side: RelaySide, errno: i32, class: ErrnoClass) {
        self.handle_send_error(side, errno, class);
        self.release_kept(side.other());
        let side = self.side_mut(side);
        // The first error is the cause.
        if let Sending::Broken(errno, class) = side.sending {
            side.end = StreamEnd::Failed(errno, class);
        }
    }

    /// The other side has failed: what came before, and a rule keeps, is passed on to this one.
    fn release_kept(&mut self, to: RelaySide) {
        let to = self.side_mut(to);
        if to.sending == Sending::Open {
            to.fault(|faults, held| faults.release_all(held));
        }
    }

    /// Records that sending to a side failed. What it had sent before can still be received.
    pub fn handle_send_error(&mut self, side: RelaySide, errno: i32, class: ErrnoClass) {
        self.note_failing(side);
        let side = self.side_mut(side);
        if !matches!(side.sending, Sending::Broken(..)) {
            side.sending = Sending::Broken(errno, class);
        }
        side.drop_held();
    }

    /// Records that the kernel announced an error of a side that no call has reported yet. Once its
    /// FIN came no receive will, so the caller must take the error and pass it to
    /// [`Relay::handle_send_error`]; returns whether that is so.
    #[must_use]
    pub fn handle_failing(&mut self, side: RelaySide) -> bool {
        if self.side(side).end == StreamEnd::None {
            self.note_failing(side);
        }
        self.side(side).end == StreamEnd::Fin
    }

    fn note_failing(&mut self, side: RelaySide) {
        self.side_mut(side).is_failing = true;
        if self.imposed.is_none() {
            self.failed_first.get_or_insert(side);
        }
    }

    /// The side to which FIN is to be sent now, if there is one. The caller sends it.
    pub fn poll_shutdown(&mut self) -> Option<RelaySide> {
        let is_due = |to: &RelaySide| {
            let (side, from) = (self.side(*to), self.side(to.other()));
            let is_passed_on = from.end == StreamEnd::Fin
                && side.holds_nothing()
                && !side.is_gated()
                && !side.swallows_fin();
            let is_imposed = side.gate() == Some(Gate::Finish)
                || self.imposed.is_some_and(|it| it.finishes(*to)) && !side.is_sendable();
            side.sending == Sending::Open && (is_passed_on || is_imposed)
        };
        let due = RelaySide::BOTH.into_iter().find(is_due)?;
        let side = self.side_mut(due);
        (side.sending, side.fin_sent) = (Sending::Finished, true);
        Some(due)
    }

    /// Whether nothing more goes to a side.
    fn is_complete(&self, to: RelaySide) -> bool {
        let side = self.side(to);
        let is_swallowed = side.swallows_fin() && side.holds_nothing() && !side.is_gated();
        self.side(to.other()).end == StreamEnd::Fin
            && (side.sending == Sending::Finished || is_swallowed)
    }

    /// Whether the end is decided: a side failed, both have sent and got their FIN, or a fault ends
    /// them.
    pub fn is_ending(&self) -> bool {
        self.imposed.is_some()
            || self.failed_first.is_some()
            || RelaySide::BOTH.into_iter().all(|side| self.is_complete(side))
    }

    /// Whether neither side has decided the end.
    pub fn is_imposed(&self) -> bool {
        self.imposed.is_some()
    }

    /// What to do with both sockets, once there is nothing left to wait for; the client's comes
    /// first. `unacknowledged` asks the kernel how many of the sent bytes a side has not
    /// acknowledged (SIOCOUTQ, `tcp(7)`).
    pub fn poll_close(
        &mut self,
        now: Timestamp,
        mut unacknowledged: impl FnMut(RelaySide) -> u64,
    ) -> Option<[RelayClose; 2]> {
        if !self.is_ending() {
            return None;
        }
        // What comes after a stall comes after it also if the source is gone meanwhile.
        if self.imposed.is_none() && self.sides.iter().any(|it| it.is_stalled() && !it.is_failing) {
            // That there is no progress meanwhile is no one's fault.
            self.wait = None;
            return None;
        }
        let mut is_delivered = true;
        let mut acknowledged = [0; 2];
        for name in RelaySide::BOTH {
            let (side, other) = (self.side(name), self.side(name.other()));
            // What a dying side has acknowledged no longer matters.
            if side.is_failing {
                continue;
            }
            let left = unacknowledged(name);
            let sent = side.delivery.sent + u64::from(side.fin_sent);
            acknowledged[name.index()] = sent.saturating_sub(left);
            is_delivered &= match self.imposed {
                Some(ImposedEnd::Reset(to)) => name != to || left == 0,
                // What it has sent instead is dropped.
                Some(ImposedEnd::ResetSides(_)) => left == 0,
                Some(ImposedEnd::Close) => left == 0 && side.end != StreamEnd::None,
                None => {
                    // What came before a failure of the other side may not have been received yet.
                    let is_unread = other.is_failing && !other.is_gone();
                    left == 0 && side.holds_nothing() && !is_unread
                }
            };
        }
        if !is_delivered && !self.is_given_up(acknowledged, now) {
            return None;
        }
        let is_reset = |side: RelaySide| {
            let other = self.side(side.other());
            other.is_failing || self.imposed.is_some_and(|imposed| !imposed.finishes(side))
        };
        Some(RelaySide::BOTH.map(|side| match is_reset(side) {
            true => RelayClose::Reset,
            false => RelayClose::Close,
        }))
    }

    /// Whether the wait for delivery has lasted too long.
    fn is_given_up(&mut self, acknowledged: [u64; 2], now: Timestamp) -> bool {
        let new =
            Wait { began: now, progress: now, acknowledged, look_again: now, pause: LOOK_MIN };
        let wait = self.wait.get_or_insert(new);
        let mut sides = acknowledged.iter().zip(wait.acknowledged);
        if sides.any(|(now, before)| *now > before) {
            wait.progress = now;
        }
        wait.acknowledged = acknowledged;
        let limit = self.linger_timeout;
        if now >= wait.progress + limit || now >= wait.began + limit * WAITS_IN_ALL {
            return true;
        }
        if now >= wait.look_again {
            wait.look_again = now + wait.pause;
            wait.pause = (wait.pause * 2).min(LOOK_MAX);
        }
        false
    }

    /// When to look at the connection again although nothing happens.
    pub fn poll_deadline(&self) -> Timestamp {
        let waits = self.wait.map_or(Timestamp::NEVER, |wait| wait.look_again);
        let open = self.sides.iter().filter(|side| side.sending == Sending::Open);
        let due = open.filter_map(|side| Some(side.timed_faults()?.deadline(side.delivery.sent)));
        due.fold(waits, Timestamp::min)
    }
}

#[cfg(test)]
mod tests;
