//! Servers in this process that behave as a test asks, with one thread per connection, and record
//! what they saw.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use trust_testkit::kernel;

/// Longest wait of a server for a byte: longer than any run of the load, which must end first.
const PATIENCE: Duration = Duration::from_secs(50);

/// Bytes of a length field.
const HEADER: usize = 4;

/// Bytes received per call.
const BUFFER_BYTES: usize = 65_536;

/// A server that listens until this process ends.
pub(crate) struct Server {
    address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    connections: Vec<Seen>,
    open: usize,
    peak: usize,
}

/// The record of a connection.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) accepted: Instant,
    /// When each frame was complete.
    pub(crate) frames: Vec<Instant>,
    pub(crate) received: Vec<u8>,
    pub(crate) sent: Vec<u8>,
}

/// A client's connection, seen from the server.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// From 1, in the order of accepting.
    pub(crate) number: usize,
    memory: Arc<Mutex<Memory>>,
}

impl Server {
    /// A server that does this with each client. The result of `serve` is ignored.
    pub(crate) fn start(
        serve: impl Fn(&mut Client) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        Server::on((Ipv4Addr::LOCALHOST, 0).into(), serve)
    }

    /// The same on that address.
    pub(crate) fn on(
        address: SocketAddr,
        serve: impl Fn(&mut Client) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(address).expect("a free port");
        let (address, memory) = (listener.local_addr().expect("an address"), Arc::default());
        let (serve, shared) = (Arc::new(serve), Arc::clone(&memory));
        thread::spawn(move || {
            for (number, stream) in (1..).zip(listener.incoming()) {
                let stream = stream.expect("a connection");
                let mut client = Client::new(stream, number, Arc::clone(&shared));
                let serve = Arc::clone(&serve);
                thread::spawn(move || drop(serve(&mut client)));
            }
        });
        Server { address, memory }
    }

    /// A server that echoes every frame.
    pub(crate) fn echo() -> Server {
        Server::start(Client::echo)
    }

    /// A server that listens only until its first client has come, which it then serves.
    pub(crate) fn for_one(
        serve: impl FnOnce(&mut Client, SocketAddr) -> io::Result<()> + Send + 'static,
        backlog: Backlog,
    ) -> Server {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        socket.bind(&any.into()).expect("a free port");
        socket.listen(0).expect("listens");
        let listener = TcpListener::from(socket);
        let (address, memory) = (listener.local_addr().expect("an address"), Arc::default());
        let shared = Arc::clone(&memory);
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            // Both before the client gets an answer, and so before it opens another connection.
            let held = match backlog {
                Backlog::Gone => {
                    drop(listener);
                    None
                }
                Backlog::Full => Some((fill(address), listener)),
            };
            drop(serve(&mut Client::new(stream, 1, shared), address));
            thread::sleep(PATIENCE);
            drop(held);
        });
        Server { address, memory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The record of each connection so far, in the order of accepting.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.memory).connections.clone()
    }

    /// The same once all connections are closed.
    #[track_caller]
    pub(crate) fn seen_at_last(&self) -> Vec<Seen> {
        kernel::wait_until("the end of all connections", || lock(&self.memory).open == 0);
        self.seen()
    }

    /// The most connections open at the same time.
    pub(crate) fn peak(&self) -> usize {
        lock(&self.memory).peak
    }

    /// The number of frames of all connections so far.
    pub(crate) fn frames(&self) -> usize {
        lock(&self.memory).connections.iter().map(|seen| seen.frames.len()).sum()
    }
}

/// What happens to clients after the first one.
pub(crate) enum Backlog {
    /// There is no listener any longer.
    Gone,
    /// The accept queue is full: the kernel drops further SYNs.
    Full,
}

/// Fills the accept queue of that listener.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    /// More than a queue of the shortest length takes.
    const ATTEMPTS_MAX: usize = 16;
    const UNANSWERED: Duration = Duration::from_millis(100);
    let connect = |_| TcpStream::connect_timeout(&address, UNANSWERED).ok();
    let places: Vec<TcpStream> = (0..ATTEMPTS_MAX).map_while(connect).collect();
    assert!(places.len() < ATTEMPTS_MAX, "the queue has no end");
    places
}

impl Client {
    fn new(stream: TcpStream, number: usize, memory: Arc<Mutex<Memory>>) -> Client {
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("set the receive timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("set the send timeout");
        let accepted = Instant::now();
        let mut shared = lock(&memory);
        shared.connections.push(Seen { accepted, frames: vec![], received: vec![], sent: vec![] });
        shared.open += 1;
        shared.peak = shared.peak.max(shared.open);
        drop(shared);
        Client { stream, number, memory }
    }

    fn remember(&self, add: impl FnOnce(&mut Seen)) {
        add(&mut lock(&self.memory).connections[self.number - 1]);
    }

    /// The next frame: four bytes of length, then the payload.
    ///
    /// # Errors
    ///
    /// If receiving fails; `UnexpectedEof` at the client's FIN.
    pub(crate) fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; HEADER];
        self.stream.read_exact(&mut frame)?;
        let len = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        frame.resize(HEADER + len, 0);
        self.stream.read_exact(&mut frame[HEADER..])?;
        let now = Instant::now();
        self.remember(|seen| {
            seen.frames.push(now);
            seen.received.extend_from_slice(&frame);
        });
        Ok(frame)
    }

    /// Skips this many frames.
    pub(crate) fn skip_frames(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.frame().map(drop))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.remember(|seen| seen.sent.extend_from_slice(bytes));
        self.stream.write_all(bytes)
    }

    /// Echoes this many frames.
    pub(crate) fn echo_frames(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| {
            let frame = self.frame()?;
            self.send(&frame)
        })
    }

    /// Echoes every frame.
    pub(crate) fn echo(&mut self) -> io::Result<()> {
        self.echo_frames(usize::MAX)
    }

    /// Echoes every frame after `latency`, and no two of them less than `gap` apart: whatever the
    /// load, its connection answers at most one message per `gap`.
    pub(crate) fn echo_late(&mut self, latency: Duration, gap: Duration) -> io::Result<()> {
        let (keep, kept) = mpsc::channel::<(Instant, Vec<u8>)>();
        let mut stream = self.stream.try_clone()?;
        let (number, memory) = (self.number, Arc::clone(&self.memory));
        thread::spawn(move || {
            for (due, frame) in kept {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                lock(&memory).connections[number - 1].sent.extend_from_slice(&frame);
                if stream.write_all(&frame).is_err() {
                    return;
                }
            }
        });
        let mut last: Option<Instant> = None;
        loop {
            let frame = self.frame()?;
            let due = Instant::now() + latency;
            let due = last.map_or(due, |last| due.max(last + gap));
            last = Some(due);
            keep.send((due, frame)).map_err(io::Error::other)?;
        }
    }

    /// Sends back all bytes, changed by `change`, which gets the bytes and how many came before.
    pub(crate) fn relay(&mut self, mut change: impl FnMut(&mut [u8], usize)) -> io::Result<()> {
        let (mut buffer, mut before) = (vec![0; BUFFER_BYTES], 0);
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.remember(|seen| seen.received.extend_from_slice(&buffer[..count]));
            change(&mut buffer[..count], before);
            before += count;
            self.send(&buffer[..count])?;
        }
    }

    /// Sends FIN, and reads what still comes, so that no RST follows.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.skip_frames(usize::MAX)
    }

    /// Echoes one frame, with FIN in the same segment, so that the client finds both together.
    pub(crate) fn echo_and_leave(&mut self) -> io::Result<()> {
        let frame = self.frame()?;
        // Holds the bytes back until the FIN is sent (tcp(7)).
        rustix::net::sockopt::set_tcp_cork(&self.stream, true)?;
        self.send(&frame)?;
        self.leave()
    }

    /// Closes with RST.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Sends nothing more until the client leaves.
    pub(crate) fn be_silent(&mut self) -> io::Result<()> {
        self.skip_frames(usize::MAX)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Before the socket is closed, which lets the client open its next connection.
        lock(&self.memory).open -= 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
