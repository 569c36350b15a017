//! What happens in a server, as typed events.

use std::time::Duration;

use trust_wire::connection::Totals;
use trust_wire::{Disconnect, During, Mode, Opening, Phase, Reason};

use crate::address::{Address, Peer};
use crate::socket::PathInfo;

/// Which connection an event is about.
#[derive(Clone, Copy, Debug)]
pub struct ClientInfo {
    /// 1, 2, 3, … in the order of acceptance; never reused.
    pub id: u64,
    /// The descriptor of the server's end.
    pub fd: i32,
    /// Who the client is.
    pub peer: Peer,
    /// The peer that connected for the client, if a PROXY header has named the client: `peer` is
    /// the client then, and until then the proxy.
    pub proxy: Option<Peer>,
}

impl ClientInfo {
    /// A client whose socket has `peer` at its other end.
    pub fn new(id: u64, fd: i32, peer: Peer) -> ClientInfo {
        ClientInfo { id, fd, peer, proxy: None }
    }
}

/// A server at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Since the server was set up.
    pub uptime: Duration,
    /// Clients accepted to be served.
    pub connections: u64,
    /// Clients turned away.
    pub rejected: u64,
    /// Bytes and frames of all connections, open ones included.
    pub totals: Totals,
    /// Connections in [`trust_wire::Phase::Connected`].
    pub connected: u64,
    /// Connections in [`trust_wire::Phase::Open`].
    pub open: u64,
    /// Connections in [`trust_wire::Phase::Lingering`].
    pub lingering: u64,
    /// Closed connections by the kind of their reason, in the order of [`Reason::KINDS`].
    pub closed: [u64; Reason::KINDS.len()],
}

impl Stats {
    /// Connections that are not closed.
    pub fn active(&self) -> u64 {
        self.connected + self.open + self.lingering
    }

    /// Counts a connection that is not closed.
    pub(crate) fn add_open(&mut self, phase: Phase, totals: Totals) {
        match phase {
            Phase::Connected => self.connected += 1,
            Phase::Open => self.open += 1,
            Phase::Lingering => self.lingering += 1,
            Phase::Closed => {}
        }
        self.totals.add(totals);
    }
}

/// How a child process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildExit {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// Lines of a log that were not written, by the place where they are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unlogged {
    /// The log file.
    pub file: u64,
    /// Standard output.
    pub stdout: u64,
}

/// Something that happened in a server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The server has everything that it needs, its threads included, and serves from now on. Comes
    /// once, before any other event.
    Started {
        /// Where it listens, or its end of the one connection.
        addresses: &'a [Address],
        /// Clients that the kernel lets wait to be accepted, on the socket with room for the
        /// fewest; `None` for a server of one connection.
        backlog: Option<u32>,
    },
    /// A client was accepted. Where connections begin with a PROXY header: it has come, or the
    /// connection ends without one.
    Connected(&'a ClientInfo),
    /// A whole frame came; only for observers that ask for frames.
    FrameReceived {
        /// From whom.
        client: &'a ClientInfo,
        /// Length of its payload in bytes.
        payload_len: usize,
    },
    /// A frame of an answer was handed to the kernel or is owed; only for observers that ask for
    /// frames.
    FrameSent {
        /// To whom.
        client: &'a ClientInfo,
        /// Length of its payload in bytes.
        payload_len: usize,
    },
    /// A connection became raw by its first byte ([`Mode::Auto`]), and is in a protocol that is
    /// known.
    Recognised {
        /// Whose.
        client: &'a ClientInfo,
        /// How its stream began.
        opening: &'a Opening,
    },
    /// The end of a connection is decided, or its cause was replaced by a failure.
    Ending {
        /// Whose.
        client: &'a ClientInfo,
        /// Why.
        cause: &'a Disconnect,
        /// Bytes and frames so far.
        totals: Totals,
        /// How its stream began, if it ended with its first frame unfinished or refused.
        opening: Option<&'a Opening>,
    },
    /// A connection is closed. Comes exactly once for every [`Event::Connected`].
    Closed {
        /// Whose.
        client: &'a ClientInfo,
        /// Why.
        cause: &'a Disconnect,
        /// How its bytes were understood; [`Mode::Auto`] if none came.
        mode: Mode,
        /// Bytes and frames.
        totals: Totals,
        /// From accept to close.
        lifetime: Duration,
        /// What the kernel knew about the path; only of TCP, and for observers that ask for it.
        path: Option<PathInfo>,
    },
    /// A child process was started to serve a client.
    ChildStarted {
        /// Whom.
        client: &'a ClientInfo,
        /// Its process number.
        pid: u32,
    },
    /// A child process could not be started: the client loses its connection, and accepting pauses.
    ChildFailed {
        /// Whose.
        client: &'a ClientInfo,
        /// The raw errno.
        errno: i32,
    },
    /// A child process has ended and was reaped.
    ChildExited {
        /// Whose.
        client: &'a ClientInfo,
        /// Its process number.
        pid: u32,
        /// How.
        exit: ChildExit,
        /// Lines of its log that it could not write, as far as it could say.
        unlogged: Unlogged,
    },
    /// All places are taken: a client was ended without being served. At most once a second.
    Rejected {
        /// Whom.
        peer: Peer,
        /// How many more there were since the last such event.
        suppressed: u64,
    },
    /// A signal interrupted a call, which is repeated.
    Interrupted {
        /// What was being done; `None` while waiting for readiness.
        during: Option<During>,
    },
    /// `accept(2)` failed in a way that concerns one client. At most once a second.
    AcceptFailed {
        /// The raw errno.
        errno: i32,
        /// How many more there were since the last such event.
        suppressed: u64,
    },
    /// Descriptors or memory have run out: accepting pauses.
    AcceptPaused {
        /// The raw errno.
        errno: i32,
    },
    /// Accepting goes on.
    AcceptResumed,
    /// The listening socket failed; the server drains and stops.
    ListenerFailed {
        /// The raw errno.
        errno: i32,
    },
    /// Every worker has gone round since the last time. Comes at least as often as
    /// [`crate::ServerConfig::pulse`] says, as long as none of them hangs.
    Alive,
    /// What [`crate::Handle::report_stats`] asked for.
    Stats(&'a Stats),
    /// The server has stopped accepting and ends its connections.
    DrainStarted {
        /// How many there are.
        active: u64,
    },
    /// All connections have ended.
    DrainDone {
        /// How many of them with an orderly close or by themselves.
        drained: u64,
        /// How many were cut.
        cut: u64,
    },
}

/// Somebody who is told what happens. Calls come from all worker threads and must not block.
///
/// ```
/// use std::net::TcpStream;
/// use std::sync::{Arc, mpsc};
/// use std::thread;
/// use trust_net::service::Echo;
/// use trust_net::wire::Reason;
/// use trust_net::{Event, Observer, Server, ServerConfig};
///
/// /// Passes on why connections ended.
/// struct Ends(mpsc::Sender<Reason>);
///
/// impl Observer for Ends {
///     fn observe(&self, event: &Event<'_>) {
///         if let Event::Closed { cause, .. } = event {
///             let _ = self.0.send(cause.reason);
///         }
///     }
/// }
///
/// let (ends, reasons) = mpsc::channel();
/// let addresses = vec![([127, 0, 0, 1], 0).into()];
/// let config = ServerConfig { addresses, ..ServerConfig::new(0) };
/// let server = Server::bind(config, Echo, Arc::new(Ends(ends)))?;
/// let address = server.local_addr().ip().expect("a TCP address");
/// let handle = server.handle();
/// let serving = thread::spawn(move || server.run());
///
/// drop(TcpStream::connect(address)?);
/// assert_eq!(reasons.recv()?, Reason::PeerFin);
///
/// handle.drain();
/// serving.join().expect("the server does not panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);

    /// Whether to be told of single frames, which costs time for each.
    fn wants_frames(&self) -> bool {
        false
    }

    /// Whether to report what the kernel knew about the path of a closed connection, which costs
    /// two system calls per connection.
    fn wants_paths(&self) -> bool {
        false
    }
}

/// Observes nothing.
impl Observer for () {
    fn observe(&self, _event: &Event<'_>) {}
}
