//! A client's connection: connecting, sending, receiving. No call waits.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use trust_wire::EncodedProxyHeader;

use crate::address::Address;
use crate::errno::{self, ErrorClass, Operation};
use crate::preface::ProxyPreface;
use crate::socket;

/// Shortest and longest pause before another attempt where the accept queue of a unix socket was
/// full: a server that accepts empties it in microseconds, and one that is stopped for minutes is
/// not worth a busy core.
const QUEUE_PAUSE_MIN: Duration = Duration::from_millis(1);
const QUEUE_PAUSE_MAX: Duration = Duration::from_millis(50);

/// The pause grows to this part of the time waited so far.
const QUEUE_PAUSE_PART: u32 = 8;

/// A connection of a client, or its attempt to have one.
///
/// A send that fails does not end it: what the peer had sent before can still be received, and then
/// how it ended.
///
/// Readiness is the caller's to wait for, here with `poll(2)`:
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpListener;
/// use rustix::event::{PollFd, PollFlags, poll};
/// use trust_net::{ClientStream, Incoming};
///
/// let wait = |stream: &ClientStream, what| poll(&mut [PollFd::new(stream, what)], None);
/// let listener = TcpListener::bind(("127.0.0.1", 0))?;
/// let address = listener.local_addr()?.into();
///
/// let mut stream = ClientStream::begin_connecting(&address, |_socket| {})?;
/// wait(&stream, PollFlags::OUT)?;
/// stream.finish_connecting()?;
/// assert_eq!(stream.send(b"ping"), 4);
/// stream.half_close();
///
/// let (mut server, _) = listener.accept()?;
/// let mut received = String::new();
/// server.read_to_string(&mut received)?;
/// server.write_all(b"pong")?;
///
/// let mut buffer = [0; 100];
/// wait(&stream, PollFlags::IN)?;
/// assert_eq!(stream.receive(&mut buffer), Incoming::Bytes(4));
/// assert_eq!((received.as_str(), &buffer[..4]), ("ping", &b"pong"[..]));
/// assert_eq!(stream.receive(&mut buffer), Incoming::Nothing);
/// drop(server);
/// wait(&stream, PollFlags::IN)?;
/// assert_eq!(stream.receive(&mut buffer), Incoming::End);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ClientStream {
    socket: Socket,
    /// Why nothing more can be sent.
    broken: Option<i32>,
    /// What the kernel has not taken of the preface: nothing, but where it is out of memory.
    unsent_preface: Box<[u8]>,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// So many bytes, at the front of the buffer.
    Bytes(usize),
    /// Nothing: the kernel has no more.
    Nothing,
    /// The peer's FIN.
    End,
    /// The connection failed with this errno.
    Failed(i32),
}

impl ClientStream {
    /// Begins to connect. The socket becomes writable when [`ClientStream::finish_connecting`] has
    /// an answer. `configure` sets what has to be set before the first segment.
    ///
    /// # Errors
    ///
    /// As `socket(2)` and `connect(2)`; see [`ClientStream::is_queue_full`].
    pub fn begin_connecting(
        address: &Address,
        configure: impl FnOnce(&Socket),
    ) -> io::Result<ClientStream> {
        let kind = Type::STREAM.nonblocking();
        let socket = match address {
            Address::Ip(ip) => {
                let socket = Socket::new(Domain::for_address(*ip), kind, Some(Protocol::TCP))?;
                socket::prepare_stream(&socket)?;
                socket
            }
            Address::Unix(_) => {
                let socket = Socket::new(Domain::UNIX, kind, None)?;
                socket.set_out_of_band_inline(true)?;
                socket
            }
        };
        configure(&socket);
        if let Err(error) = socket.connect(&address.to_socket_address()?)
            && !matches!(
                errno::classify(errno::of(&error), Operation::Connect),
                // After a signal too it goes on (connect(2)).
                ErrorClass::WouldBlock | ErrorClass::Interrupted
            )
        {
            return Err(error);
        }
        Ok(ClientStream { socket, broken: None, unsent_preface: Box::default() })
    }

    /// Whether [`ClientStream::begin_connecting`] failed because the accept queue of a unix socket
    /// is full (EAGAIN, `connect(2)`). Unlike with EINPROGRESS, nothing is under way then, and
    /// readiness does not show when there is room: begin again after [`ClientStream::queue_pause`].
    pub fn is_queue_full(address: &Address, error: &io::Error) -> bool {
        matches!(address, Address::Unix(_)) && errno::of(error) == errno::WOULD_BLOCK
    }

    /// The pause before the next attempt, after so much time with a full accept queue: 1 to 50 ms.
    pub fn queue_pause(waited: Duration) -> Duration {
        (waited / QUEUE_PAUSE_PART).clamp(QUEUE_PAUSE_MIN, QUEUE_PAUSE_MAX)
    }

    /// What came of the attempt.
    ///
    /// # Errors
    ///
    /// As `connect(2)`.
    pub fn finish_connecting(&self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        // If nothing listens on a port of the ephemeral range, the kernel may pick that very port
        // as the local one, and the socket connects to itself (RFC 9293, section 3.5): a perfect
        // echo.
        match (self.socket.local_addr(), self.socket.peer_addr()) {
            (Ok(own), Ok(peer)) if own.as_socket().is_some() && own == peer => {
                Err(Errno::CONNREFUSED.into())
            }
            _ => Ok(()),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// As `getpeername(2)`: the peer's RST may have come.
    pub fn peer_addr(&self) -> io::Result<Address> {
        let address = self.socket.peer_addr()?;
        Address::of_socket_address(&address).ok_or_else(|| Errno::AFNOSUPPORT.into())
    }

    /// Sends the header of the PROXY protocol before everything else, once it is connected, and
    /// returns it. What the kernel does not take of it goes with the next [`ClientStream::send`] or
    /// [`ClientStream::flush_preface`].
    pub fn send_preface(&mut self, preface: &ProxyPreface) -> EncodedProxyHeader {
        let header = self.preface_header(preface);
        let taken = self.send_stream(&header);
        // Nearly always nothing, for which nothing is allocated.
        self.unsent_preface = Box::from(&header[taken..]);
        header
    }

    /// The header that [`ClientStream::send_preface`] sends on this connection.
    pub fn preface_header(&self, preface: &ProxyPreface) -> EncodedProxyHeader {
        let ends = [self.socket.local_addr(), self.socket.peer_addr()];
        let [own, peer] = ends.map(|end| end.ok().as_ref().and_then(SockAddr::as_socket));
        preface.header(own, peer).encode(preface.version)
    }

    /// Whether part of the preface waits for room in the kernel.
    pub fn has_unsent_preface(&self) -> bool {
        !self.unsent_preface.is_empty()
    }

    /// Sends what is left of the preface; whether nothing is.
    pub fn flush_preface(&mut self) -> bool {
        if self.has_unsent_preface() {
            let unsent = std::mem::take(&mut self.unsent_preface);
            let taken = self.send_stream(&unsent);
            self.unsent_preface = Box::from(&unsent[taken..]);
        }
        !self.has_unsent_preface()
    }

    /// Sends with one call; returns how many bytes the kernel took. None if it takes no more now,
    /// or if sending fails, which [`ClientStream::receive`] reports. What is left of a preface goes
    /// first and does not count.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        match self.flush_preface() && !bytes.is_empty() {
            true => self.send_stream(bytes),
            false => 0,
        }
    }

    fn send_stream(&mut self, bytes: &[u8]) -> usize {
        while self.broken.is_none() {
            let error = match socket::send(self.socket.as_fd(), bytes) {
                Ok(count) => return count,
                Err(error) => errno::of(&error),
            };
            match errno::classify(error, Operation::Send) {
                ErrorClass::WouldBlock => break,
                ErrorClass::Interrupted => {}
                _ => self.broken = Some(error),
            }
        }
        0
    }

    /// Receives with one call. After a failed send, bytes that had arrived come first, and then its
    /// errno.
    pub fn receive(&self, buffer: &mut [u8]) -> Incoming {
        loop {
            let error = match socket::receive(self.socket.as_fd(), buffer) {
                Ok(0) => return self.end(),
                Ok(count) => return Incoming::Bytes(count),
                Err(error) => errno::of(&error),
            };
            match (errno::classify(error, Operation::Receive), self.broken) {
                (ErrorClass::Interrupted, _) => {}
                (ErrorClass::WouldBlock, None) => return Incoming::Nothing,
                (_, broken) => return Incoming::Failed(broken.unwrap_or(error)),
            }
        }
    }

    /// What the kernel calls the end of the stream. It does so after a RST too, once a send has
    /// reported that.
    fn end(&self) -> Incoming {
        match self.broken {
            // The FIN had come, and the RST says only that more was sent after it.
            Some(errno) if errno::classify(errno, Operation::Send) == ErrorClass::BrokenPipe => {
                Incoming::End
            }
            broken => broken.map_or(Incoming::End, Incoming::Failed),
        }
    }

    /// Sends FIN and goes on receiving.
    pub fn half_close(&self) {
        // ENOTCONN after an RST from the peer: the next receive says so.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Why nothing more can be sent, if that is so.
    pub fn send_error(&self) -> Option<i32> {
        self.broken
    }

    /// Takes an error of the socket that was found elsewhere, and so is gone from the socket
    /// (SO_ERROR, `socket(7)`).
    pub fn handle_error(&mut self, errno: i32) {
        self.broken.get_or_insert(errno);
    }
}

impl AsFd for ClientStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::{SendFlags, send};
    use trust_wire::ProxyVersion;

    use crate::preface::PrefaceSource;

    use super::*;
    use crate::address::UnixName;

    fn await_readiness(stream: &ClientStream, flags: PollFlags) {
        poll(&mut [PollFd::new(stream, flags)], None).expect("it can be waited for");
    }

    fn pair() -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").into();
        let stream = ClientStream::begin_connecting(&address, |_| ()).expect("it is under way");
        let (server, _) = listener.accept().expect("a client");
        await_readiness(&stream, PollFlags::OUT);
        stream.finish_connecting().expect("it is there");
        assert_eq!(stream.peer_addr().expect("an address"), address);
        (stream, server)
    }

    /// A listening socket with a name of its own in the abstract namespace, and that name.
    fn unix_listener(name: &str) -> (UnixListener, Address) {
        let name = format!("trust-net-stream-{name}-{}", std::process::id());
        let own = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&own).expect("no one else has it");
        (listener, unix(&format!("@{name}")))
    }

    fn unix(name: &str) -> Address {
        Address::Unix(UnixName::parse(OsStr::new(name)).expect("a name"))
    }

    fn unix_pair(name: &str) -> (ClientStream, UnixStream) {
        let (listener, address) = unix_listener(name);
        let stream = ClientStream::begin_connecting(&address, |_| ()).expect("it is there");
        await_readiness(&stream, PollFlags::OUT);
        stream.finish_connecting().expect("it is there");
        assert_eq!(stream.peer_addr().expect("an address"), address);
        (stream, listener.accept().expect("a client").0)
    }

    /// Receives once something is there.
    fn receive(stream: &ClientStream, buffer: &mut [u8]) -> Incoming {
        await_readiness(stream, PollFlags::IN);
        stream.receive(buffer)
    }

    /// Asks, half-closes, and receives the answer and the end.
    fn check_both_ways(mut stream: ClientStream, mut server: impl Read + Write) {
        let mut buffer = [0; 10];
        assert_eq!(stream.receive(&mut buffer), Incoming::Nothing);
        assert_eq!(stream.send(b"question"), 8);
        stream.half_close();
        let mut question = String::new();
        server.read_to_string(&mut question).expect("text");
        assert_eq!(question, "question");
        server.write_all(b"answer").expect("sends");
        drop(server);
        assert_eq!(receive(&stream, &mut buffer), Incoming::Bytes(6));
        assert_eq!(receive(&stream, &mut buffer), Incoming::End);
    }

    #[test]
    fn bytes_go_both_ways_until_the_end() {
        let (stream, server) = pair();
        check_both_ways(stream, server);
        let (stream, server) = unix_pair("both-ways");
        check_both_ways(stream, server);
    }

    #[test]
    fn urgent_bytes_are_bytes_of_the_stream() {
        let (stream, server) = pair();
        send(&server, b"!", SendFlags::OOB).expect("sends");
        send(&server, b"ab", SendFlags::OOB).expect("sends");
        drop(server);
        let (mut got, mut buffer) = (vec![], [0; 10]);
        while let Incoming::Bytes(count) = receive(&stream, &mut buffer) {
            got.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(got, b"!ab");
    }

    #[test]
    fn what_had_arrived_is_received_after_a_failed_send_and_then_why_it_failed() {
        let (mut stream, mut server) = pair();
        let mut buffer = [0; 10];
        server.write_all(b"answer").expect("sends");
        assert_eq!(stream.send(b"unread"), 6);
        server.peek(&mut [0]).expect("it has come");
        // Closing with unread bytes sends RST.
        drop(server);
        while stream.send_error().is_none() {
            stream.send(b"x");
        }
        assert_eq!(stream.receive(&mut buffer), Incoming::Bytes(6));
        assert_eq!(stream.receive(&mut buffer), Incoming::Failed(104));
        assert_eq!(stream.send(b"x"), 0);
    }

    #[test]
    fn a_preface_goes_in_front_of_everything_and_does_not_count() {
        let (mut stream, mut server) = pair();
        let source = PrefaceSource::Address { ip: [203, 0, 113, 7].into(), port: Some(4711) };
        let preface = ProxyPreface { version: ProxyVersion::V1, source };
        let header = stream.send_preface(&preface);
        assert!(stream.flush_preface());
        assert_eq!(stream.send(b"question"), 8);
        assert_eq!(stream.send(b""), 0);
        stream.half_close();
        let mut got = String::new();
        server.read_to_string(&mut got).expect("text");
        let port = server.local_addr().expect("an address").port();
        assert_eq!(got, format!("PROXY TCP4 203.0.113.7 127.0.0.1 4711 {port}\r\nquestion"));
        assert!(got.as_bytes().starts_with(&header));
    }

    #[test]
    fn a_preface_that_the_kernel_does_not_take_is_sent_before_the_next_bytes() {
        let (mut stream, mut server) = pair();
        let filled: usize = std::iter::repeat_with(|| stream.send(&[0; 65_536]))
            .take_while(|count| *count > 0)
            .sum();
        let preface = ProxyPreface { version: ProxyVersion::V2, source: PrefaceSource::Unknown };
        let header = stream.send_preface(&preface);
        assert!(!stream.flush_preface() && stream.has_unsent_preface());
        assert_eq!(stream.send(b"x"), 0);
        server.read_exact(&mut vec![0; filled]).expect("what fills it");
        await_readiness(&stream, PollFlags::OUT);
        assert_eq!(stream.send(b"x"), 1);
        stream.half_close();
        let mut got = vec![];
        server.read_to_end(&mut got).expect("bytes");
        assert_eq!(got, [&header[..], b"x"].concat());
    }

    /// A connection whose server has closed its end over unread bytes, which is a RST, perhaps
    /// after a FIN.
    fn reset(after_fin: bool) -> ClientStream {
        let (mut stream, server) = pair();
        assert_eq!(stream.send(b"unread"), 6);
        server.peek(&mut [0]).expect("it has come");
        if after_fin {
            server.shutdown(Shutdown::Write).expect("it can be");
        }
        drop(server);
        stream
    }

    #[test]
    fn a_reset_is_told_from_an_end_whichever_call_meets_it() {
        let buffer = &mut [0; 10];
        assert_eq!(receive(&reset(false), buffer), Incoming::Failed(104));
        assert_eq!(receive(&reset(true), buffer), Incoming::End);
        for (after_fin, expected) in [(false, Incoming::Failed(104)), (true, Incoming::End)] {
            let mut stream = reset(after_fin);
            while stream.send_error().is_none() {
                stream.send(b"x");
            }
            assert_eq!(receive(&stream, buffer), expected);
        }
    }

    #[test]
    fn a_port_on_which_nobody_listens_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").into();
        drop(listener);
        let refused = match ClientStream::begin_connecting(&address, |_| ()) {
            Ok(stream) => {
                await_readiness(&stream, PollFlags::OUT);
                stream.finish_connecting()
            }
            Err(error) => Err(error),
        };
        let error = refused.expect_err("no one is there");
        let class = errno::classify(errno::of(&error), Operation::Connect);
        assert_eq!(class, ErrorClass::Refused);
    }

    #[test]
    fn a_socket_that_met_itself_is_refused() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a free port");
        let own = socket.local_addr().expect("an address");
        socket.connect(&own).expect("it meets itself");
        let unsent_preface = Box::default();
        let error = ClientStream { socket, broken: None, unsent_preface }.finish_connecting();
        assert_eq!(errno::of(&error.expect_err("no one is there")), 111);
    }

    #[test]
    fn over_a_unix_socket_a_preface_names_only_a_source_that_is_given() {
        let ip = [203, 0, 113, 7].into();
        for (name, source, expected) in [
            ("own", PrefaceSource::Own, "PROXY UNKNOWN\r\n"),
            ("given", PrefaceSource::Address { ip, port: Some(4711) }, GIVEN),
        ] {
            let (mut stream, mut server) = unix_pair(&format!("preface-{name}"));
            stream.send_preface(&ProxyPreface { version: ProxyVersion::V1, source });
            stream.half_close();
            let mut got = String::new();
            server.read_to_string(&mut got).expect("text");
            assert_eq!(got, expected);
        }
    }

    /// The destination has no address, and has to be one of the same family.
    const GIVEN: &str = "PROXY TCP4 203.0.113.7 0.0.0.0 4711 0\r\n";

    #[test]
    fn a_unix_socket_closed_over_unread_bytes_brings_the_answer_and_then_a_reset() {
        let (mut stream, mut server) = unix_pair("unread");
        let mut buffer = [0; 10];
        assert_eq!(stream.send(b"unread"), 6);
        server.write_all(b"answer").expect("sends");
        drop(server);
        assert_eq!(receive(&stream, &mut buffer), Incoming::Bytes(6));
        assert_eq!(receive(&stream, &mut buffer), Incoming::Failed(104));
    }

    #[test]
    fn what_is_unread_on_a_unix_socket_is_gone_exactly_when_the_peer_has_read_all_of_it() {
        let (mut stream, mut server) = unix_pair("queue");
        let unread = |stream: &ClientStream| socket::path_info(stream.as_fd()).unacknowledged;
        assert_eq!(unread(&stream), 0);
        assert_eq!(stream.send(b"question"), 8);
        let queued = unread(&stream);
        assert!(queued > 8, "kernel memory, not bytes: {queued}");
        server.read_exact(&mut [0; 7]).expect("bytes");
        assert_eq!(unread(&stream), queued);
        server.read_exact(&mut [0; 1]).expect("a byte");
        assert_eq!(unread(&stream), 0);
    }

    #[test]
    fn a_full_accept_queue_of_a_unix_socket_is_told_and_nothing_is_under_way() {
        let (listener, address) = unix_listener("full");
        rustix::net::listen(&listener, 0).expect("it listens already");
        let begin = || ClientStream::begin_connecting(&address, |_| ());
        let first = begin().expect("the queue has room for one");
        let full = begin().expect_err("it has no more");
        assert!(ClientStream::is_queue_full(&address, &full), "{full}");
        assert!(!ClientStream::is_queue_full(&([127, 0, 0, 1], 7).into(), &full));
        listener.accept().expect("the first client");
        begin().expect("there is room again").finish_connecting().expect("it is there");
        drop(first);
        let pause = |millis| ClientStream::queue_pause(Duration::from_millis(millis)).as_millis();
        assert_eq!([pause(0), pause(80), pause(10_000)], [1, 10, 50]);
    }

    #[test]
    fn no_unix_socket_of_that_name_and_one_on_which_nobody_listens_are_told_apart() {
        let class = |address: &Address| {
            let error =
                ClientStream::begin_connecting(address, |_| ()).expect_err("no one is there");
            errno::classify(errno::of(&error), Operation::Connect)
        };
        assert_eq!(class(&unix("/proc/self/no-such.sock")), ErrorClass::Missing);
        let (listener, address) = unix_listener("closed");
        drop(listener);
        assert_eq!(class(&address), ErrorClass::Refused);
    }
}
