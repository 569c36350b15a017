//! One client of the proxy, and its upstream.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mio::event::Event;
use mio::{Registry, Token};
use socket2::SockRef;
use trust_net::address::{Family, Peer};
use trust_net::loop_parts::{Registered, note_event};
use trust_net::socket;
use trust_net::stream::ClientStream;
use trust_wire::relay::{Relay, RelayClose, RelaySide, StreamEnd};
use trust_wire::{ErrnoClass, Readiness, Timestamp};

use crate::engine::dial::{Dial, DialStep};
use crate::engine::pipes::Pipe;
use crate::engine::toxic::HeldToxic;
use crate::engine::{INTEREST, end_socket, got};
use crate::events::{ClientName, Got, SideReport};
use crate::rules::Who;
use crate::trace::SideSum;

/// One client of the proxy.
pub(super) struct RelayedClient {
    pub(super) id: u64,
    /// Where it came, and so which upstream it is for.
    pub(super) pair: usize,
    /// Its number among those of the pair, from 1.
    pub(super) number: u64,
    pub(super) peer: Peer,
    pub(super) stream: OwnedFd,
    pub(super) began: Timestamp,
    pub(super) stage: RelayStage,
    pub(super) readiness: [Readiness; 2],
    /// Waits for another turn without having to be woken.
    pub(super) is_queued: bool,
    /// The time for which it is in the timers.
    pub(super) armed: Timestamp,
}

/// How far a client has come.
#[expect(clippy::large_enum_variant, reason = "nearly every client relays")]
pub(super) enum RelayStage {
    /// The upstream is not there yet.
    Dialling(Box<Dial>),
    /// Bytes flow, or will not because there is no upstream.
    Relaying(Relayed),
}

/// A relay and its second socket.
pub(super) struct Relayed {
    pub(super) relay: Relay,
    /// `None`: it could not be reached.
    pub(super) upstream: Option<ClientStream>,
    pub(super) family: Family,
    /// For each side, what it has not taken of many bytes.
    pub(super) pipes: [Option<Pipe>; 2],
    /// Rules are for it, or its frames are followed.
    pub(super) is_watched: bool,
    pub(super) toxics: Vec<HeldToxic>,
    /// Somebody has asked for its end.
    pub(super) is_ended: bool,
}

impl Relayed {
    pub(super) const fn without_upstream(relay: Relay) -> Relayed {
        Relayed {
            relay,
            upstream: None,
            family: Family::Ip,
            pipes: [None, None],
            is_watched: false,
            toxics: vec![],
            is_ended: false,
        }
    }
}

impl RelayedClient {
    pub(super) fn name(&self) -> ClientName {
        ClientName { id: self.id, fd: self.stream.as_raw_fd(), peer: self.peer }
    }

    /// As rules know it.
    pub(super) fn who(&self) -> Who {
        let address = match self.peer {
            Peer::Ip(address) => Some(address.ip()),
            Peer::Unix { .. } => None,
        };
        Who { connection: self.id, address, pair: self.pair }
    }

    /// Records an event of one of its sockets.
    pub(super) fn note_readiness(&mut self, side: RelaySide, event: &Event) {
        note_event(&mut self.readiness[side.index()], event);
        if event.is_error() {
            self.note_error(side);
        }
    }

    fn note_error(&mut self, side: RelaySide) {
        let is_to_be_taken = match &mut self.stage {
            RelayStage::Dialling(dial) => {
                dial.is_client_gone |= side == RelaySide::Client;
                false
            }
            RelayStage::Relaying(relayed) => relayed.relay.handle_failing(side),
        };
        if is_to_be_taken
            && let Some((errno, class)) = self.socket(side).and_then(socket::take_error)
            && let RelayStage::Relaying(relayed) = &mut self.stage
        {
            relayed.relay.handle_send_error(side, errno, class);
        }
    }

    fn socket(&self, side: RelaySide) -> Option<BorrowedFd<'_>> {
        match (side, &self.stage) {
            (RelaySide::Client, _) => Some(self.stream.as_fd()),
            (RelaySide::Upstream, RelayStage::Relaying(relayed)) => {
                relayed.upstream.as_ref().map(AsFd::as_fd)
            }
            (RelaySide::Upstream, RelayStage::Dialling(_)) => None,
        }
    }

    fn family(&self, side: RelaySide) -> Family {
        match (side, &self.stage) {
            (RelaySide::Upstream, RelayStage::Relaying(relayed)) => relayed.family,
            (RelaySide::Upstream, RelayStage::Dialling(_)) => Family::Ip,
            (RelaySide::Client, _) => self.peer.family(),
        }
    }

    /// Asks the kernel about a socket, after a pause.
    pub(super) fn ask_again(&mut self, side: RelaySide, registry: &Registry, token: Token) {
        self.readiness[side.index()].ask_again();
        if let Some(socket) = self.socket(side) {
            Registered { socket, registry, token, interest: INTEREST }.ask();
        }
    }

    /// Its state, as statistics say it.
    pub(super) fn state(&self) -> &'static str {
        match &self.stage {
            RelayStage::Dialling(_) => "connecting",
            RelayStage::Relaying(relayed) if relayed.relay.is_ending() => "closing",
            RelayStage::Relaying(_) => "open",
        }
    }

    /// Bytes that came from a side.
    pub(super) fn received_from(&self, side: RelaySide) -> u64 {
        match &self.stage {
            RelayStage::Dialling(_) => 0,
            RelayStage::Relaying(relayed) => relayed.relay.delivery(side.other()).received,
        }
    }

    /// Bytes that the kernel took for a side.
    pub(super) fn sent_to(&self, side: RelaySide) -> u64 {
        match &self.stage {
            RelayStage::Dialling(_) => 0,
            RelayStage::Relaying(relayed) => relayed.relay.delivery(side).sent,
        }
    }

    /// Bytes that are held for a side.
    pub(super) fn held_for(&self, side: RelaySide) -> u64 {
        match &self.stage {
            RelayStage::Dialling(_) => 0,
            RelayStage::Relaying(relayed) => relayed.relay.held_len(side) as u64,
        }
    }

    /// Whole frames that came from a side, if they are followed.
    pub(super) fn frames_from(&self, side: RelaySide) -> Option<u64> {
        match &self.stage {
            RelayStage::Dialling(_) => None,
            RelayStage::Relaying(relayed) => relayed.relay.frames(side.other()),
        }
    }

    /// How both sides ended, if the connection is closed in this way.
    pub(super) fn reports(&self, close: [RelayClose; 2]) -> [SideReport; 2] {
        RelaySide::BOTH.map(|side| {
            let end = self.end_of(side);
            let is_gone = matches!(end, StreamEnd::Failed(..)) || self.socket(side).is_none();
            let got = got(close[side.index()], self.family(side));
            SideReport {
                end,
                got: if is_gone { Got::Nothing } else { got },
                bytes: self.received_from(side),
                frames: self.frames_from(side),
                undelivered: self.undelivered_to(side.other()),
            }
        })
    }

    fn end_of(&self, side: RelaySide) -> StreamEnd {
        match (&self.stage, side) {
            (RelayStage::Relaying(Relayed { upstream: None, .. }), RelaySide::Upstream) => {
                StreamEnd::None
            }
            (RelayStage::Relaying(relayed), _) => match relayed.relay.end(side) {
                // Its last bytes were not received, so no call has reported what came after them.
                StreamEnd::None | StreamEnd::Fin if relayed.relay.is_failing(side) => {
                    self.pending_failure(side)
                }
                end => end,
            },
            (RelayStage::Dialling(dial), RelaySide::Client) if dial.is_client_gone => {
                self.pending_failure(side)
            }
            (RelayStage::Dialling(_), _) => StreamEnd::None,
        }
    }

    /// The failure of a side that no call has reported.
    fn pending_failure(&self, side: RelaySide) -> StreamEnd {
        let error = self.socket(side).and_then(socket::take_error);
        let (errno, class) = error.unwrap_or((0, ErrnoClass::Reset));
        StreamEnd::Failed(errno, class)
    }

    /// Bytes for a side that it has not acknowledged, those included that still lie unread in the
    /// kernel.
    fn undelivered_to(&self, side: RelaySide) -> u64 {
        let RelayStage::Relaying(relayed) = &self.stage else {
            let is_from_client = side == RelaySide::Upstream;
            return if is_from_client { socket::unread(self.stream.as_fd()) } else { 0 };
        };
        let delivery = relayed.relay.delivery(side);
        let unacknowledged = self.unacknowledged_by(side);
        let unreceived = match relayed.relay.drops_all(side) {
            true => 0,
            false => self.socket(side.other()).map_or(0, socket::unread),
        };
        delivery.due - (delivery.sent - unacknowledged) + unreceived
    }

    /// Bounds how many bytes the kernel receives from a side before the proxy does (SO_RCVBUF,
    /// `socket(7)`). The kernel takes about twice that, and has a minimum of about 2 kB.
    pub(super) fn bound_receive_buffer(&self, side: RelaySide, bytes: u64) {
        // The kernel takes it as an int.
        let size = bytes.min(i32::MAX as u64) as usize;
        if let Some(socket) = self.socket(side) {
            let _ = SockRef::from(&socket).set_recv_buffer_size(size);
        }
    }

    /// What each side has now.
    pub(super) fn sums(&self) -> [SideSum; 2] {
        RelaySide::BOTH.map(|side| {
            let RelayStage::Relaying(relayed) = &self.stage else { return SideSum::default() };
            let forwarded = relayed.relay.delivery(side).sent;
            SideSum {
                received: self.received_from(side),
                forwarded,
                acknowledged: forwarded - self.unacknowledged_by(side),
                held: relayed.relay.held_len(side) as u64,
            }
        })
    }

    /// How many of the bytes sent to a side it has not acknowledged.
    fn unacknowledged_by(&self, side: RelaySide) -> u64 {
        let RelayStage::Relaying(relayed) = &self.stage else { return 0 };
        let unacknowledged = match (self.family(side), self.socket(side)) {
            (Family::Ip, Some(socket)) => socket::unacknowledged(socket),
            _ => 0,
        };
        // A FIN counts as one byte.
        let fin = u64::from(relayed.relay.is_fin_sent(side));
        unacknowledged.saturating_sub(fin).min(relayed.relay.delivery(side).sent)
    }

    /// Closes its sockets.
    pub(super) fn end(self, got: [Got; 2]) {
        for side in RelaySide::BOTH {
            if let Some(socket) = self.socket(side) {
                end_socket(socket, got[side.index()]);
            }
        }
        // An upstream may have accepted what the proxy still waits for.
        if let RelayStage::Dialling(dial) = &self.stage
            && let DialStep::Racing(race) = &dial.step
            && got[RelaySide::Client.index()] != Got::Fin
        {
            race.sockets().for_each(socket::reset_on_close);
        }
    }
}
