//! One served connection: the core, the session, and what the observer is told of them.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use trust_wire::frame::{Frames, HEADER_LEN, peek_header};
use trust_wire::turn::{Answer, Serve};
use trust_wire::{Connection, During, Limits, Mode, ProxyHeader, Received, Timestamp};

use crate::address::{Family, Peer};
use crate::errno;
use crate::observer::{ClientInfo, Event, Observer};
use crate::service::{Reply, Service, Session};
use crate::socket::{self, path_info, settled_path_info};
use crate::stats::ClosedCounters;

/// One accepted connection; what does the I/O owns it next to the socket.
pub(crate) struct Client<S> {
    pub(crate) connection: Connection,
    pub(crate) served: Served<S>,
}

/// Whom the connection serves, and who does.
pub(crate) struct Served<S> {
    id: u64,
    fd: i32,
    peer: PeerAddress,
    admission: Admission<S>,
}

/// How far a client has come.
enum Admission<S> {
    /// It is turned away: it gets no session, and no event but that of its rejection.
    TurnedAway,
    /// Its PROXY header is still to come. There is no session and no event yet.
    Awaited,
    /// It ends without its header.
    Unknown,
    /// The session answers it.
    Admitted(S),
}

impl<S> Served<S> {
    // Out of the way of the echo, which seldom needs it.
    #[inline(never)]
    fn info(&self) -> ClientInfo {
        let (id, fd) = (self.id, self.fd);
        match &self.peer {
            PeerAddress::Proxied(both) => {
                ClientInfo { id, fd, peer: both[0], proxy: Some(both[1]) }
            }
            peer => ClientInfo::new(id, fd, peer.get()),
        }
    }

    fn session(&mut self) -> Option<&mut S> {
        if let Admission::Admitted(session) = &mut self.admission { Some(session) } else { None }
    }
}

/// Has the session answer, and reports the client and frames to the observer.
pub(crate) struct Answering<'a, S: Service> {
    pub(crate) served: &'a mut Served<S::Session>,
    pub(crate) service: &'a S,
    pub(crate) observer: &'a dyn Observer,
    /// Where a reply is written that does not send back what came; reused.
    pub(crate) buffer: &'a mut Vec<u8>,
}

impl<S: Service> Serve for Answering<'_, S> {
    fn introduce(&mut self, header: &ProxyHeader) {
        if let ProxyHeader::Tcp { source, .. } = header {
            let (proxy, client) = (self.served.peer.get(), socket::canonical(*source));
            self.served.peer = PeerAddress::Proxied(Box::new([client.into(), proxy]));
        }
        let info = self.served.info();
        self.observer.observe(&Event::Connected(&info));
        self.served.admission = Admission::Admitted(self.service.accept(info.peer));
    }

    fn answer<'a>(&'a mut self, received: &'a Received<'_>) -> Answer<'a> {
        let client = self.observer.wants_frames().then(|| self.served.info());
        let mut reply = Reply::new(std::mem::take(self.buffer));
        if let Some(session) = self.served.session() {
            match received {
                Received::Nothing => {}
                Received::Raw(bytes) => session.receive_raw(bytes, &mut reply),
                Received::Frames(decoded) => {
                    let frames = decoded.frames();
                    if let Some(client) = &client {
                        report_frames_received(client, frames, self.observer);
                    }
                    session.receive(frames, &mut reply);
                }
            }
        }
        let ([first, second], written, frames) = reply.into_parts();
        *self.buffer = written;
        let parts = [first, second, &self.buffer[..]];
        if frames > 0
            && let Some(client) = &client
        {
            report_frames_sent(client, &parts, self.observer);
        }
        Answer { parts, frames }
    }
}

/// A peer in half of the bytes: most have an address of IPv4, and every connection keeps it.
enum PeerAddress {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Unix {
        pid: i32,
        uid: u32,
    },
    /// A client, and its proxy.
    Proxied(Box<[Peer; 2]>),
}

// Every idle connection has one.
const _: () = assert!(size_of::<PeerAddress>() == 16);

impl PeerAddress {
    fn new(peer: Peer) -> PeerAddress {
        match peer {
            Peer::Ip(SocketAddr::V4(address)) => PeerAddress::V4(address),
            Peer::Ip(SocketAddr::V6(address)) => PeerAddress::V6(Box::new(address)),
            Peer::Unix { pid, uid } => PeerAddress::Unix { pid, uid },
        }
    }

    fn get(&self) -> Peer {
        match *self {
            PeerAddress::V4(address) => Peer::Ip(address.into()),
            PeerAddress::V6(ref address) => Peer::Ip((**address).into()),
            PeerAddress::Unix { pid, uid } => Peer::Unix { pid, uid },
            PeerAddress::Proxied(ref both) => both[0],
        }
    }
}

impl<S> Client<S> {
    /// Of which family the connection's socket is.
    pub(crate) fn family(&self) -> Family {
        match self.served.peer {
            PeerAddress::V4(_) | PeerAddress::V6(_) => Family::Ip,
            PeerAddress::Unix { .. } => Family::Unix,
            // The socket is the proxy's.
            PeerAddress::Proxied(ref both) => both[1].family(),
        }
    }
}

impl<S: Session> Client<S> {
    pub(crate) fn accept(
        service: &impl Service<Session = S>,
        limits: Arc<Limits>,
        info: ClientInfo,
        observer: &dyn Observer,
        now: Timestamp,
    ) -> Client<S> {
        let admission = match limits.proxy_header {
            Some(_) => Admission::Awaited,
            None => {
                observer.observe(&Event::Connected(&info));
                Admission::Admitted(service.accept(info.peer))
            }
        };
        Client::new(Connection::new(limits, now), info, admission)
    }

    /// A connection for which there is no place.
    pub(crate) fn reject(limits: Arc<Limits>, peer: Peer, now: Timestamp) -> Client<S> {
        let info = ClientInfo::new(0, -1, peer);
        Client::new(Connection::reject(limits, now), info, Admission::TurnedAway)
    }

    fn new(connection: Connection, info: ClientInfo, admission: Admission<S>) -> Client<S> {
        let ClientInfo { id, fd, peer, .. } = info;
        let served = Served { id, fd, peer: PeerAddress::new(peer), admission };
        Client { connection, served }
    }

    /// Whether the connection is served, and not turned away.
    pub(crate) fn is_served(&self) -> bool {
        !matches!(self.served.admission, Admission::TurnedAway)
    }

    /// Owed bytes were handed to the kernel: notifies the session if that were all.
    pub(crate) fn report_drained(&mut self) {
        if let (true, Some(session)) = (self.connection.owed().is_empty(), self.served.session()) {
            session.handle_drained();
        }
    }

    pub(crate) fn handle_io_error(&mut self, error: &io::Error, during: During) {
        let errno = errno::of(error);
        let class = errno::classify(errno, during.into()).into();
        self.connection.handle_error(errno, class, during);
    }

    /// Reports an opening that is worth a word, and a cause that is new, to the observer.
    pub(crate) fn report_cause(&mut self, observer: &dyn Observer) {
        // After each turn there is a look, and next to never anything to tell.
        if self.connection.has_news() {
            self.report_news(observer);
        }
    }

    #[inline(never)]
    fn report_news(&mut self, observer: &dyn Observer) {
        let opening = self.connection.poll_opening();
        let mut opening = opening.as_deref();
        let cause = self.connection.poll_cause();
        if !self.is_served() || (opening.is_none() && cause.is_none()) {
            return;
        }
        let client = &self.served.info();
        if matches!(self.served.admission, Admission::Awaited) {
            observer.observe(&Event::Connected(client));
            self.served.admission = Admission::Unknown;
        }
        // Raw bytes were answered, whether the end has come with them or not. Elsewhere the opening
        // belongs to what was wrong.
        if self.connection.mode() == Mode::Raw
            && self.served.session().is_some()
            && let Some(opening) = opening.take()
        {
            observer.observe(&Event::Recognised { client, opening });
        }
        if let Some(cause) = &cause {
            let totals = self.connection.totals();
            observer.observe(&Event::Ending { client, cause, totals, opening });
        }
    }

    /// The socket is about to be closed: reports it and counts the connection, unless the client
    /// was turned away.
    pub(crate) fn close(
        mut self,
        socket: BorrowedFd<'_>,
        observer: &dyn Observer,
        counters: &ClosedCounters,
        now: Timestamp,
    ) {
        self.report_cause(observer);
        let (info, family) = (self.served.info(), self.family());
        if !self.is_served() {
            return;
        }
        let cause = self.connection.cause().expect("a closed connection has a cause");
        let totals = self.connection.totals();
        let path = || match self.connection.is_acknowledged() {
            true => settled_path_info(socket),
            false => path_info(socket),
        };
        counters.note(totals, &cause.reason);
        observer.observe(&Event::Closed {
            client: &info,
            cause: &cause,
            mode: self.connection.mode(),
            totals,
            lifetime: now.since(self.connection.opened_at()),
            path: (family == Family::Ip && observer.wants_paths()).then(path),
        });
        if let Admission::Admitted(session) = self.served.admission {
            session.close(&cause);
        }
    }
}

fn report_frames_received(client: &ClientInfo, frames: Frames<'_>, observer: &dyn Observer) {
    for payload in frames {
        let payload_len = payload.len();
        observer.observe(&Event::FrameReceived { client, payload_len });
    }
}

fn report_frames_sent(client: &ClientInfo, parts: &[&[u8]], observer: &dyn Observer) {
    for part in parts {
        let mut rest = *part;
        while let Some(payload_len) = peek_header(rest) {
            let payload_len = payload_len as usize;
            observer.observe(&Event::FrameSent { client, payload_len });
            rest = &rest[HEADER_LEN + payload_len..];
        }
    }
}
