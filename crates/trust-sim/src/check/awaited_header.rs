//! The PROXY header of a connection, as the witness has it.

use std::time::Duration;

use trust_wire::proxy_header::PROXY_HEADER_MAX;
use trust_wire::{BadProxyHeader, Limits, Probe, Reason};

use crate::model::{HeaderModel, HeaderNow};

/// A header that is not whole yet.
#[derive(Debug)]
pub(super) struct AwaitedHeader {
    model: HeaderModel,
    /// Bytes that were received, what follows the header included.
    pub(super) received: usize,
    /// How many had arrived when it was first judged after its time: they may complete it.
    fence: Option<usize>,
}

impl AwaitedHeader {
    pub(super) fn new(model: HeaderModel) -> AwaitedHeader {
        AwaitedHeader { model, received: 0, fence: None }
    }

    /// So many bytes were received.
    pub(super) fn receive(&mut self, count: usize) -> HeaderNow {
        self.received += count;
        self.model.after(self.received)
    }

    /// Bytes of it that have to be held.
    pub(super) fn held(&self) -> usize {
        self.received.min(PROXY_HEADER_MAX)
    }

    /// Why the connection ends if FIN comes now.
    pub(super) fn reason_of_fin(&self) -> Reason {
        match self.received {
            0 => Reason::PeerFin,
            _ => Reason::ProxyHeaderInvalid(BadProxyHeader::Unfinished),
        }
    }

    /// The connection is judged at this age.
    pub(super) fn note_look(&mut self, age: Duration, limits: &Limits, probe: Probe) {
        if limits.proxy_header.is_some_and(|limit| age >= limit) {
            self.fence.get_or_insert(self.received + probe.unread as usize);
        }
    }

    /// Whether all was received that had arrived in time.
    pub(super) fn had_all(&self) -> bool {
        self.fence.is_some_and(|fence| self.received >= fence)
    }
}

/// Whether it is that of a header that is wrong, whatever is wrong with it.
pub(super) fn is_header_invalid(reason: &Reason) -> bool {
    matches!(reason, Reason::ProxyHeaderInvalid(_))
}
