//! The load: closed loops over many connections, with every byte compared.

use std::fmt;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Socket, Type};

use crate::echoing::EchoingSocket;
use crate::stream::Stream;

/// Bytes received per call.
const BUFFER_BYTES: usize = 256 * 1024;

/// How often to look at a connection before the next one: for about as long as a server takes for
/// an echo.
const LOOKS: u32 = 16;

/// How long a server may send nothing at all before it counts as dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look whether a relay has connected.
const ACCEPT_PAUSE: Duration = Duration::from_micros(20);

/// The longest latency that can be distinguished from longer ones, in nanoseconds.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// What to send: the number of connections, and the number and size of frames in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Connections.
    pub connections: usize,
    /// Bytes of payload in a frame.
    pub payload_len: usize,
    /// Frames in flight on each connection.
    pub in_flight: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { connections, payload_len, in_flight } = self;
        match payload_len {
            1024.. if payload_len.is_multiple_of(1024) => {
                write!(f, "{connections} × {} KiB × {in_flight}", payload_len / 1024)
            }
            _ => write!(f, "{connections} × {payload_len} B × {in_flight}"),
        }
    }
}

/// The result of one run of the load.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Frames that came back.
    pub messages: u64,
    /// From the first send to the last answer.
    pub elapsed: Duration,
    /// From passing a frame to the kernel until its last byte is back, in nanoseconds.
    pub latency: Histogram<u64>,
}

/// Connections to one server.
pub struct Load {
    stream: Stream,
    in_flight: usize,
    connections: Vec<LoadConnection>,
    /// The other ends, if the load is at both ends of a relay.
    far_ends: Vec<EchoingSocket>,
    buffer: Vec<u8>,
}

struct LoadConnection {
    socket: OwnedFd,
    /// Bytes passed to the kernel.
    sent: u64,
    /// Bytes that may be sent by now.
    due: u64,
    received: u64,
    /// When each frame in flight became due; a ring.
    due_at: Box<[Instant]>,
}

impl Load {
    /// Connects without sending anything yet.
    ///
    /// # Errors
    ///
    /// Errors of connect(2).
    pub fn connect(address: SocketAddr, shape: Shape) -> io::Result<Load> {
        let mut load = Load::new(shape);
        for _ in 0..shape.connections {
            let socket = connect(address)?;
            socket.set_nonblocking(true)?;
            load.connections.push(LoadConnection::new(socket, shape));
        }
        Ok(load)
    }

    /// The same through a relay, to a server that is part of the load and sends back every byte.
    /// `far` is where the relay connects to, and `address` where it listens.
    ///
    /// # Errors
    ///
    /// Errors of connect(2) and accept(2), and if a connection does not come through.
    pub fn connect_through(
        address: SocketAddr,
        far: &TcpListener,
        shape: Shape,
    ) -> io::Result<Load> {
        let mut load = Load::new(shape);
        for index in 0..shape.connections as u64 {
            let socket = connect(address)?;
            let hello = index.to_be_bytes();
            if send(&socket, &hello, SendFlags::NOSIGNAL)? != hello.len() {
                return Err(io::Error::other("no room for the first bytes"));
            }
            let accepted = accept_hello(far, hello, PATIENCE)?;
            socket.set_nonblocking(true)?;
            load.connections.push(LoadConnection::new(socket, shape));
            load.far_ends.push(EchoingSocket::new(accepted));
        }
        Ok(load)
    }

    fn new(shape: Shape) -> Load {
        Load {
            stream: Stream::new(shape.payload_len, shape.in_flight),
            in_flight: shape.in_flight,
            connections: Vec::with_capacity(shape.connections),
            far_ends: vec![],
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Keeps every connection's frames in flight for `length`, then waits until all have come back.
    /// With a length of zero every connection has its frames echoed once.
    ///
    /// It neither sleeps nor asks which connection is ready. It takes them in the order of sending,
    /// which is the order in which a server answers, and so executes fewer instructions than any
    /// server. Otherwise, if both sides cost about the same, the slightly slower one would find
    /// everything in a cold cache, and a small difference would become a large one. Nor does the
    /// server pay for waking it. The server that is part of the load is looked at in the same
    /// order.
    ///
    /// # Errors
    ///
    /// If a connection ends, a byte differs, or nothing comes for five seconds.
    pub fn run(&mut self, length: Duration) -> io::Result<Seen> {
        let latency = Histogram::new_with_max(LATENCY_MAX_NS, 3).expect("legal bounds");
        let mut seen = Seen { messages: 0, elapsed: Duration::ZERO, latency };
        let started = Instant::now();
        let mut awaited = 0;
        for connection in &mut self.connections {
            connection.release(self.in_flight, &self.stream, Instant::now())?;
            awaited += self.in_flight as u64;
        }
        let mut progress_at = started;
        let mut index = 0;
        while awaited > 0 {
            let mut looks = 0;
            let (answered, now) = loop {
                let has_moved = match self.far_ends.get_mut(index) {
                    None => false,
                    Some(far) => {
                        let came = far.turn(false, &mut self.buffer);
                        came.ok_or_else(|| io::Error::other(format!("far end {index}: closed")))?
                            > 0
                    }
                };
                let connection = &mut self.connections[index];
                let outcome = connection.turn(&self.stream, &mut self.buffer, &mut seen);
                let (answered, now) = outcome
                    .map_err(|error| io::Error::other(format!("connection {index}: {error}")))?;
                looks += 1;
                if answered > 0 || has_moved || looks == LOOKS {
                    break (answered, now);
                }
            };
            if answered > 0 {
                progress_at = now;
                awaited -= answered as u64;
                if now - started < length {
                    awaited += answered as u64;
                    self.connections[index].release(answered, &self.stream, now)?;
                }
            } else if now - progress_at >= PATIENCE {
                return Err(io::Error::other(format!("no answer in {PATIENCE:?}")));
            }
            index = (index + 1) % self.connections.len();
        }
        seen.elapsed = started.elapsed();
        Ok(seen)
    }
}

fn connect(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// The connection on which these bytes come. Others are dropped: while a relay starts, something
/// connects to it now and then only to see whether it listens.
fn accept_hello(far: &TcpListener, hello: [u8; 8], patience: Duration) -> io::Result<OwnedFd> {
    let until = Instant::now() + patience;
    far.set_nonblocking(true)?;
    while Instant::now() < until {
        let mut stream = match far.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let mut came = [0; 8];
        if stream.read_exact(&mut came).is_ok() && came == hello {
            stream.set_nonblocking(true)?;
            return Ok(stream.into());
        }
    }
    Err(io::Error::other(format!("the relay did not connect in {patience:?}")))
}

impl LoadConnection {
    fn new(socket: Socket, shape: Shape) -> LoadConnection {
        let due_at = vec![Instant::now(); shape.in_flight].into();
        LoadConnection { socket: socket.into(), sent: 0, due: 0, received: 0, due_at }
    }

    /// Allows `frames` more to be sent.
    fn release(&mut self, frames: usize, stream: &Stream, now: Instant) -> io::Result<()> {
        let ring = self.due_at.len() as u64;
        for _ in 0..frames {
            let frame = self.due / stream.frame_len as u64;
            self.due_at[(frame % ring) as usize] = now;
            self.due += stream.frame_len as u64;
        }
        self.send(stream)
    }

    fn send(&mut self, stream: &Stream) -> io::Result<()> {
        let len = (self.due - self.sent) as usize;
        if len == 0 {
            return Ok(());
        }
        match send(&self.socket, stream.slice(self.sent, len), SendFlags::NOSIGNAL) {
            Ok(sent) => self.sent += sent as u64,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Sends and receives what it can; returns how many frames came back, and when.
    fn turn(
        &mut self,
        stream: &Stream,
        buffer: &mut [u8],
        seen: &mut Seen,
    ) -> io::Result<(usize, Instant)> {
        self.send(stream)?;
        let (frame_len, ring) = (stream.frame_len as u64, self.due_at.len() as u64);
        let mut answered = 0;
        loop {
            let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::Error::other("the server closed it")),
                Ok((received, _)) => received,
                Err(Errno::AGAIN | Errno::INTR) => return Ok((answered, Instant::now())),
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            if let Some(at) = stream.mismatch(self.received, &buffer[..received]) {
                return Err(io::Error::other(format!("byte {at} of the echo is wrong")));
            }
            let first = self.received / frame_len;
            self.received += received as u64;
            if self.received > self.sent {
                return Err(io::Error::other("more came back than was sent"));
            }
            for frame in first..self.received / frame_len {
                let latency = (now - self.due_at[(frame % ring) as usize]).as_nanos() as u64;
                seen.latency.saturating_record(latency);
                seen.messages += 1;
                answered += 1;
            }
            if received < buffer.len() {
                return Ok((answered, now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpStream};
    use std::thread;

    use super::*;

    const SHAPE: Shape = Shape { connections: 3, payload_len: 100, in_flight: 4 };

    /// Serves connections; `answer` may change the bytes sent back.
    fn server(answer: fn(&mut [u8])) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        answer(&mut buffer[..count]);
                        if stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    #[test]
    fn every_echo_is_counted_once() {
        let mut load = Load::connect(server(|_| {}), SHAPE).expect("connects");
        let seen = load.run(Duration::ZERO).expect("all comes back");
        assert_eq!((seen.messages, seen.latency.len()), (12, 12));
        // Longer if this process is not scheduled for a while.
        let goes_on = (0..8).any(|longer| {
            let seen = load.run(Duration::from_millis(50 << longer)).expect("all comes back");
            seen.messages >= 24
        });
        assert!(goes_on, "no second message of any connection");
    }

    #[test]
    fn one_wrong_bit_fails_the_run() {
        let mut load = Load::connect(server(|bytes| bytes[50] ^= 1), SHAPE).expect("connects");
        let error = load.run(Duration::ZERO).expect_err("a bit is wrong");
        assert!(error.to_string().contains("byte 50 of the echo is wrong"), "{error}");
    }

    /// Relays connections, one thread per direction, with pieces of odd sizes.
    fn relay(to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let copy = |mut from: TcpStream, mut to: TcpStream| {
            let mut buffer = [0; 1021];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            // It may be gone already.
            let _ = to.shutdown(Shutdown::Write);
        };
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.expect("a connection");
                let far = TcpStream::connect(to).expect("the load listens");
                let [near_too, far_too] =
                    [&near, &far].map(|it| it.try_clone().expect("a descriptor"));
                thread::spawn(move || copy(near, far));
                thread::spawn(move || copy(far_too, near_too));
            }
        });
        address
    }

    #[test]
    fn every_frame_comes_back_through_a_relay_from_the_end_that_belongs_to_it() {
        let far = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let far_address = far.local_addr().expect("an address");
        let address = relay(far_address);
        // One that only looks, as when a relay is started, belongs to no connection of the load.
        drop(TcpStream::connect(address).expect("it listens"));
        let mut load = Load::connect_through(address, &far, SHAPE).expect("connects");
        let seen = load.run(Duration::ZERO).expect("all comes back");
        assert_eq!((seen.messages, seen.latency.len()), (12, 12));
        let mut direct = Load::connect_through(far_address, &far, SHAPE).expect("connects");
        assert_eq!(direct.run(Duration::ZERO).expect("all comes back").messages, 12);
    }

    #[test]
    fn a_relay_that_does_not_connect_fails() {
        let far = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let error = accept_hello(&far, [0; 8], Duration::ZERO).expect_err("nothing comes");
        assert!(error.to_string().contains("did not connect"), "{error}");
    }

    #[test]
    fn a_server_that_closes_fails_the_run() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut load = Load::connect(address, SHAPE).expect("the backlog takes them");
        drop(listener);
        assert!(load.run(Duration::ZERO).is_err());
    }
}
