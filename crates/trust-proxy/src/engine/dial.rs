//! How far a client is on the way to its upstream.

use trust_cli::connect::Race;
use trust_cli::wait::Limit;
use trust_net::Address;
use trust_wire::Timestamp;

/// A client's way to its upstream.
pub(super) struct Dial {
    pub(super) limit: Limit,
    pub(super) step: DialStep,
    /// The client has reset its connection meanwhile.
    pub(super) is_client_gone: bool,
}

/// How far it is.
pub(super) enum DialStep {
    /// A rule has it begin then; the rules from that number on come first.
    Delayed { until: Timestamp, next_rule: usize },
    /// The name is being looked up.
    Resolving,
    /// Addresses are tried.
    Racing(Race),
    /// Descriptors ran out: these are tried again then.
    Pausing(Vec<Address>, Timestamp),
}

impl Dial {
    pub(super) fn new(limit: Limit) -> Dial {
        Dial { limit, step: DialStep::Resolving, is_client_gone: false }
    }
}
