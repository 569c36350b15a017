//! A place to listen and an upstream, and what is known of their clients.

use std::rc::Rc;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::resolve::literal_addresses;
use trust_cli::target::Target;
use trust_cli::values::quoted;
use trust_net::Address;
use trust_net::listening::ListeningSocket;

use crate::engine::toxic::{AttachedToxic, HeldToxic};

/// Where clients come, and the server for them.
pub(crate) struct ListeningPair {
    pub(crate) sockets: Vec<ListeningSocket>,
    /// Its name.
    pub(crate) proxy: String,
    pub(crate) upstream: PairUpstream,
}

/// The server for clients of some listening sockets, and what happens to these.
pub(super) struct RelayPair {
    /// Its name.
    pub(super) proxy: String,
    pub(super) upstream: PairUpstream,
    /// Clients that wait for its addresses: their places and numbers.
    pub(super) asking: Vec<(usize, u64)>,
    /// In the order in which they came.
    pub(super) toxics: Vec<Rc<AttachedToxic>>,
    pub(super) traffic: PairTraffic,
    /// No more clients come.
    pub(super) is_closed: bool,
}

/// The server of a pair.
pub(crate) struct PairUpstream {
    /// As it was written.
    pub(crate) text: String,
    /// The server, or why there can be none.
    pub(crate) target: Result<Target, Failure>,
    /// Its addresses, if they are in its name.
    pub(crate) known: Option<Vec<Address>>,
}

/// What a pair has done. Of each two numbers the first is of the client's side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PairTraffic {
    pub(super) connections: u64,
    pub(super) open: u64,
    pub(super) rejected: u64,
    /// Bytes that came from each side in connections that are over.
    pub(super) received: [u64; 2],
    /// Bytes that the kernel took for each side in these.
    pub(super) sent: [u64; 2],
}

/// What pairs of one name have done that are over.
#[derive(Clone, Debug, Default)]
pub(super) struct PairRecord {
    /// Where the last one of that name listens, or did.
    pub(super) listen: String,
    /// Its upstream.
    pub(super) upstream: String,
    pub(super) traffic: PairTraffic,
}

impl PairTraffic {
    /// Adds what others have done.
    pub(super) fn add(&mut self, other: &PairTraffic) {
        self.connections += other.connections;
        self.open += other.open;
        self.rejected += other.rejected;
        for index in 0..2 {
            self.received[index] += other.received[index];
            self.sent[index] += other.sent[index];
        }
    }
}

impl PairUpstream {
    /// The server that a word names, if it names one.
    pub(crate) fn of_text(text: &str) -> PairUpstream {
        let wrong = |fault| {
            let message = format!("invalid upstream {}: {fault}", quoted(text));
            Failure::new(ExitCode::NoHost, message)
        };
        let target = Target::of_word(text).map_err(wrong);
        let place = target.and_then(|target| Ok((literal_addresses(&target)?, target)));
        match place {
            Ok((known, target)) => {
                PairUpstream { text: text.to_owned(), target: Ok(target), known }
            }
            Err(failure) => {
                PairUpstream { text: text.to_owned(), target: Err(failure), known: None }
            }
        }
    }
}

impl RelayPair {
    pub(super) fn new(proxy: String, upstream: PairUpstream) -> RelayPair {
        let (asking, toxics, traffic) = (vec![], vec![], PairTraffic::default());
        RelayPair { proxy, upstream, asking, toxics, traffic, is_closed: false }
    }

    /// The toxics that its connection of that number has from the start.
    pub(super) fn toxics_for(&self, number: u64, seed: u64) -> Vec<HeldToxic> {
        let is_for = |it: &&Rc<AttachedToxic>| it.toxic.is_for(seed, &self.proxy, number);
        let toxics = self.toxics.iter().filter(is_for);
        toxics.map(|of| HeldToxic { of: Rc::clone(of), began: 0 }).collect()
    }
}
