//! Connect, echo, close: the cost of a connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::{Domain, Socket, Type};

use crate::stream::Stream;

/// Payload bytes of the single frame per connection.
const PAYLOAD_BYTES: usize = 64;

/// Concurrent connections to most servers: enough that the server always has one to serve.
pub const CONCURRENT: usize = 64;

/// Connections from one source address before moving on to the next: each leaves a port in
/// TIME_WAIT, and a source has 28,000 ports.
const PER_SOURCE: u64 = 2_000;

/// How long the server may make no progress.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections opened so far, to all servers.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// The result of one run.
#[derive(Clone, Copy, Debug)]
pub struct Churned {
    /// Connections that were opened, had their frame echoed, and saw an orderly close by both
    /// sides.
    pub connections: u64,
    /// How long that took.
    pub elapsed: Duration,
}

/// Opens connections one after another, several at a time.
pub struct Churn {
    address: SocketAddr,
    stream: Stream,
    epoll: OwnedFd,
    slots: Vec<Option<Slot>>,
}

struct Slot {
    socket: OwnedFd,
    state: ConnectionState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    Connecting,
    /// Waiting for the echo; this many bytes of it have come.
    Awaiting(usize),
    /// FIN was sent; waiting for the server's.
    Closing,
}

impl Churn {
    /// Prepares for `concurrent` connections at a time, but opens none yet.
    ///
    /// # Errors
    ///
    /// If there are too few descriptors.
    pub fn new(address: SocketAddr, concurrent: usize) -> io::Result<Churn> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let slots = (0..concurrent).map(|_| None).collect();
        Ok(Churn { address, stream: Stream::new(PAYLOAD_BYTES, 1), epoll, slots })
    }

    /// Opens and closes connections for `length`, then waits for the last ones.
    ///
    /// # Errors
    ///
    /// If a connection fails, a byte differs, or nothing comes for five seconds.
    pub fn run(&mut self, length: Duration) -> io::Result<Churned> {
        let started = Instant::now();
        let mut connections = 0;
        for index in 0..self.slots.len() {
            self.open(index)?;
        }
        let mut open = self.slots.len();
        let mut events = Vec::with_capacity(open);
        let timeout = Timespec::try_from(PATIENCE).expect("some seconds");
        while open > 0 {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(0) => return Err(io::Error::other(format!("no answer in {PATIENCE:?}"))),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let index = event.data.u64() as usize;
                if !self.turn(index)? {
                    continue;
                }
                connections += 1;
                if started.elapsed() < length {
                    self.open(index)?;
                } else {
                    self.slots[index] = None;
                    open -= 1;
                }
            }
        }
        Ok(Churned { connections, elapsed: started.elapsed() })
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        // 127.1.0.0 and up: a new source every PER_SOURCE connections, across all servers, because
        // a port in TIME_WAIT blocks every `bind(2)` to its address.
        let opened = OPENED.fetch_add(1, Ordering::Relaxed);
        let source = Ipv4Addr::from_bits(0x7f01_0000 + (opened / PER_SOURCE) as u32 % 0xf0_0000);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let socket = OwnedFd::from(socket);
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(index as u64), interest)?;
        self.slots[index] = Some(Slot { socket, state: ConnectionState::Connecting });
        Ok(())
    }

    /// Returns whether the connection is over, after an orderly close.
    fn turn(&mut self, index: usize) -> io::Result<bool> {
        let Some(slot) = &mut self.slots[index] else { return Ok(false) };
        let frame = self.stream.slice(0, self.stream.frame_len);
        let mut buffer = [0; 2 * PAYLOAD_BYTES];
        if slot.state == ConnectionState::Connecting {
            match send(&slot.socket, frame, SendFlags::NOSIGNAL) {
                // So few bytes always fit into an empty buffer.
                Ok(_) => slot.state = ConnectionState::Awaiting(0),
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            let received = match recv(&slot.socket, &mut buffer, RecvFlags::empty()) {
                Ok((received, _)) => received,
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            match (slot.state, received) {
                (ConnectionState::Awaiting(have), 1..) if have + received <= frame.len() => {
                    if self.stream.mismatch(have as u64, &buffer[..received]).is_some() {
                        return Err(io::Error::other("a byte of the echo is wrong"));
                    }
                    slot.state = ConnectionState::Awaiting(have + received);
                    if have + received == frame.len() {
                        shutdown(&slot.socket, Shutdown::Write)?;
                        slot.state = ConnectionState::Closing;
                    }
                }
                (ConnectionState::Closing, 0) => return Ok(true),
                (ConnectionState::Awaiting(have), 0) => {
                    return Err(io::Error::other(format!("closed after {have} bytes of the echo")));
                }
                _ => return Err(io::Error::other("more came back than was sent")),
            }
        }
    }
}
