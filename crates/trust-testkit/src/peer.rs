//! A scripted TCP peer: a test controls every byte that it sends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::{Domain, SockRef, Socket, Type};

use super::STEP_DEADLINE;
use super::kernel;

/// A connection to the server; every wait on it is bounded.
pub struct Peer {
    stream: TcpStream,
    address: SocketAddr,
}

impl Peer {
    #[track_caller]
    pub fn connect(server: SocketAddr) -> Peer {
        let stream = match TcpStream::connect_timeout(&server, STEP_DEADLINE) {
            Ok(stream) => stream,
            Err(error) => panic!("cannot connect to {server}: {error}"),
        };
        Peer::over(stream)
    }

    /// A peer with a receive buffer of about this many bytes, so that it takes little without
    /// reading.
    #[track_caller]
    pub fn connect_with_receive_buffer(server: SocketAddr, bytes: usize) -> Peer {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None);
        let socket = socket.expect("make a socket");
        // Before the handshake, which announces the window.
        socket.set_recv_buffer_size(bytes).expect("set SO_RCVBUF");
        if let Err(error) = socket.connect_timeout(&server.into(), STEP_DEADLINE) {
            panic!("cannot connect to {server}: {error}");
        }
        Peer::over(socket.into())
    }

    /// A peer with the smallest buffers that the kernel allows, so that what it does not read stays
    /// with the server.
    #[track_caller]
    pub fn connect_tiny(server: SocketAddr) -> Peer {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None);
        let socket = socket.expect("make a socket");
        // The kernel raises these to its minimum.
        socket.set_recv_buffer_size(1).expect("set SO_RCVBUF");
        socket.set_send_buffer_size(1).expect("set SO_SNDBUF");
        socket.connect_timeout(&server.into(), STEP_DEADLINE).expect("connect");
        Peer::over(socket.into())
    }

    /// Gives a peer that was connected with a small receive buffer a large one, so that it reads
    /// fast from now on.
    #[track_caller]
    pub fn enlarge_receive_buffer(&self) {
        SockRef::from(&self.stream).set_recv_buffer_size(1 << 20).expect("set SO_RCVBUF");
    }

    /// A peer over a connection that was set up in a special way.
    #[track_caller]
    pub fn over(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        stream.set_read_timeout(Some(STEP_DEADLINE)).expect("set the receive timeout");
        stream.set_write_timeout(Some(STEP_DEADLINE)).expect("set the send timeout");
        let address = stream.local_addr().expect("a connected socket's address");
        Peer { stream, address }
    }

    /// This end's address, the `peer` of the server's events.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket itself, for what only a single test needs.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The same connection again, for another thread. It closes when both are dropped.
    pub fn twin(&self) -> Peer {
        let stream = self.stream.try_clone().expect("duplicate a descriptor");
        Peer { stream, address: self.address }
    }

    /// Gives up the socket.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            panic!("cannot send {} bytes: {error}", bytes.len());
        }
    }

    /// Sends a byte marked as urgent (MSG_OOB).
    #[track_caller]
    pub fn send_urgent(&mut self, byte: u8) {
        let sent = SockRef::from(&self.stream).send_out_of_band(&[byte]);
        assert_eq!(sent.ok(), Some(1), "cannot send an urgent byte");
    }

    #[track_caller]
    pub fn send_frame(&mut self, payload: &[u8]) {
        self.send(&frame(payload));
    }

    /// Sends what the kernel takes without waiting; returns the number of bytes.
    #[track_caller]
    pub fn sends_what_fits(&self, bytes: &[u8]) -> usize {
        match rustix::net::send(&self.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(error) => panic!("cannot send: {error}"),
        }
    }

    /// Checks that exactly these bytes come next.
    #[track_caller]
    pub fn receives(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        if let Err(error) = self.stream.read_exact(&mut received) {
            let wanted = expected.len();
            match error.kind() {
                ErrorKind::UnexpectedEof => panic!("the stream ended before {wanted} bytes came"),
                ErrorKind::WouldBlock => panic!("{wanted} bytes did not come in {STEP_DEADLINE:?}"),
                _ => panic!("{error} before {wanted} bytes came"),
            }
        }
        assert_same(&received, expected);
    }

    /// Checks that exactly this frame comes next.
    #[track_caller]
    pub fn receives_frame(&mut self, payload: &[u8]) {
        self.receives(&frame(payload));
    }

    /// Sends FIN and keeps reading.
    #[track_caller]
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("send FIN");
    }

    /// Checks that these bytes come, and then an orderly end of the stream.
    #[track_caller]
    pub fn receives_to_end(&mut self, expected: &[u8]) {
        let mut received = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut received) {
            let got = received.len();
            match error.kind() {
                ErrorKind::ConnectionReset => panic!("reset after {got} bytes, no orderly end"),
                ErrorKind::WouldBlock => panic!("{got} bytes, but no end in {STEP_DEADLINE:?}"),
                _ => panic!("{error} after {got} bytes"),
            }
        }
        // Once FIN has been received, reads report the end even if an RST came after it.
        if let Some(error) = self.stream.take_error().expect("read SO_ERROR") {
            panic!("reset after the end of the stream: {error}");
        }
        assert_same(&received, expected);
    }

    /// Checks that nothing comes but an orderly end of the stream.
    #[track_caller]
    pub fn receives_end(&mut self) {
        self.receives_to_end(b"");
    }

    /// Checks that the connection ends with RST, whatever comes before it.
    #[track_caller]
    pub fn receives_reset(&mut self) {
        let mut received = Vec::new();
        match self.stream.read_to_end(&mut received) {
            Ok(got) => panic!("an orderly end after {got} bytes, no reset"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
            Err(error) => panic!("{error} after {} bytes, no reset", received.len()),
        }
    }

    /// Checks that the connection ends, orderly or with RST, whatever comes before.
    #[track_caller]
    pub fn is_gone(&mut self) {
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
            Err(error) => panic!("{error}, no end"),
        }
    }

    /// Like [`Peer::receives_reset`], but waits without reading: reading would open a closed window
    /// and let through an end that is queued after data.
    #[track_caller]
    pub fn is_reset(&mut self) {
        let mut waiting = [PollFd::new(&self.stream, PollFlags::HUP)];
        let timeout = Timespec::try_from(STEP_DEADLINE).expect("a deadline of seconds");
        let ready = poll(&mut waiting, Some(&timeout)).expect("poll a socket");
        assert!(ready > 0, "no reset within {STEP_DEADLINE:?}");
        self.receives_reset();
    }

    /// Waits until the kernel at the other end has received everything sent.
    #[track_caller]
    pub fn is_received(&self) {
        kernel::wait_until("all that was sent being acknowledged", || {
            let probe = trust_net::socket::probe(self.stream.as_fd());
            // Reading the error clears it, so no later call would report it.
            assert!(probe.error.is_none(), "failed before all was received: {probe:?}");
            probe.unacknowledged == 0
        });
    }

    /// Checks that no error has come, including for sends.
    #[track_caller]
    pub fn has_no_error(&self) {
        let error = self.stream.take_error().expect("read SO_ERROR");
        assert!(error.is_none(), "the connection failed: {error:?}");
    }

    /// Closes with RST instead of FIN: `SO_LINGER` with a time of zero.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
    }

    /// Closes with FIN, which requires that everything received has been read.
    pub fn leave(self) {}
}

/// A server on a free port that accepts when it is told to.
pub fn upstream() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

/// The next client of a server.
#[track_caller]
pub fn accept(listener: &TcpListener) -> Peer {
    let mut waiting = [PollFd::new(listener, PollFlags::IN)];
    let timeout = Timespec::try_from(STEP_DEADLINE).expect("a deadline of seconds");
    let ready = poll(&mut waiting, Some(&timeout)).expect("poll a socket");
    assert!(ready > 0, "no client came within {STEP_DEADLINE:?}");
    let (stream, _) = listener.accept().expect("accept a client");
    Peer::over(stream)
}

/// A frame on the wire: the length in four big-endian bytes, then the payload.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length of 32 bits");
    [&length.to_be_bytes(), payload].concat()
}

/// Bytes that reveal a lost, repeated or swapped stretch: the period divides no power of two.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// Large payloads make unreadable messages, so this shows where they begin to differ.
#[track_caller]
fn assert_same(received: &[u8], expected: &[u8]) {
    if received == expected {
        return;
    }
    let same = received.iter().zip(expected).take_while(|(left, right)| left == right).count();
    panic!(
        "received {} bytes, expected {}, which differ from byte {same} on: {:?} in place of {:?}",
        received.len(),
        expected.len(),
        String::from_utf8_lossy(excerpt(received, same)),
        String::from_utf8_lossy(excerpt(expected, same)),
    );
}

fn excerpt(bytes: &[u8], from: usize) -> &[u8] {
    const EXCERPT_BYTES: usize = 40;
    &bytes[from..bytes.len().min(from + EXCERPT_BYTES)]
}
