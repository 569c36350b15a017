//! One framed connection with blocking calls.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use trust_wire::frame::{self, HEADER_LEN, decode_header};

use crate::exact::{ExactError, recv_exact, send_exact};
use crate::{socket, sys};

/// Room, in bytes, that a payload gets before any of it has arrived: a declared length is a claim.
const FIRST_ROOM: usize = 512;

/// How often it is looked at first, and at last, whether the peer has acknowledged everything.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(100);

/// A connection that sends and receives frames and blocks meanwhile.
///
/// SO_RCVTIMEO and SO_SNDTIMEO of the stream (`TcpStream::set_read_timeout`) bound each wait.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use std::thread;
/// use std::time::Duration;
/// use trust_net::BlockingConnection;
/// use trust_net::blocking::RecvFrameError;
///
/// let listener = TcpListener::bind(("127.0.0.1", 0))?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// stream.set_read_timeout(Some(Duration::from_secs(5)))?;
/// let mut client = BlockingConnection::new(stream, 65_536)?;
/// let mut server = BlockingConnection::new(listener.accept()?.0, 1000)?;
///
/// client.send_frame(b"hello")?;
/// assert_eq!(server.recv_frame()?, b"hello");
/// server.send_frame(b"hello to you")?;
/// assert_eq!(client.recv_frame()?, b"hello to you");
///
/// // Each end waits for the other one's FIN.
/// let closing = thread::spawn(move || client.close(Duration::from_secs(5)));
/// assert!(matches!(server.recv_frame(), Err(RecvFrameError::Closed)));
/// server.close(Duration::from_secs(5))?;
/// closing.join().expect("close does not panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BlockingConnection {
    stream: TcpStream,
    max_payload: u32,
}

/// Why no frame was received.
#[derive(Debug, thiserror::Error)]
pub enum RecvFrameError {
    /// The peer sent FIN between frames: the normal end.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection ended, or nothing came for too long, before the frame was whole.
    #[error("{have} bytes of a frame had arrived: {source}")]
    Incomplete {
        /// Bytes of the frame that had arrived, header included; 0 between frames.
        have: usize,
        /// What happened.
        source: ExactError,
    },
    /// The header declares more than is allowed. The stream cannot be followed any further.
    #[error("the peer declared a frame of {declared} bytes: expected at most {max_payload}")]
    TooLarge {
        /// The declared length in bytes.
        declared: u32,
        /// The largest length that is allowed.
        max_payload: u32,
    },
}

impl BlockingConnection {
    /// Takes over a connected stream. Payloads of at most `max_payload` bytes are received.
    ///
    /// # Errors
    ///
    /// If TCP_NODELAY or SO_OOBINLINE cannot be set.
    pub fn new(stream: TcpStream, max_payload: u32) -> io::Result<BlockingConnection> {
        socket::prepare_stream(&SockRef::from(&stream))?;
        Ok(BlockingConnection { stream, max_payload })
    }

    /// Sends one frame.
    ///
    /// # Errors
    ///
    /// [`ExactError`], which says how many bytes of header and payload went through.
    ///
    /// # Panics
    ///
    /// If the payload is longer than `u32::MAX` bytes.
    pub fn send_frame(&mut self, payload: &[u8]) -> Result<(), ExactError> {
        let mut frame = Vec::new();
        frame::encode_frame(payload, &mut frame);
        send_exact(&mut self.stream, &frame)
    }

    /// Receives the payload of the next frame. Memory grows with what arrives, not with what was
    /// declared.
    ///
    /// # Errors
    ///
    /// [`RecvFrameError`]; FIN between frames is [`RecvFrameError::Closed`].
    pub fn recv_frame(&mut self) -> Result<Vec<u8>, RecvFrameError> {
        let mut header = [0; HEADER_LEN];
        recv_exact(&mut self.stream, &mut header).map_err(|source| match source {
            ExactError::Disconnected { transferred: 0 } => RecvFrameError::Closed,
            source => RecvFrameError::Incomplete { have: source.transferred(), source },
        })?;
        let declared = decode_header(header);
        if declared > self.max_payload {
            return Err(RecvFrameError::TooLarge { declared, max_payload: self.max_payload });
        }
        let len = declared as usize;
        let mut payload = Vec::new();
        while payload.len() < len {
            let have = payload.len();
            payload.resize(len.min(have + have.max(FIRST_ROOM)), 0);
            recv_exact(&mut self.stream, &mut payload[have..]).map_err(|source| {
                let have = HEADER_LEN + have + source.transferred();
                RecvFrameError::Incomplete { have, source }
            })?;
        }
        Ok(payload)
    }

    /// Ends the connection with an orderly close: sends FIN, discards what comes until the peer's
    /// FIN, and waits until the peer's kernel has acknowledged what was sent, all of it within
    /// `linger_timeout`. Closing with unread bytes would send RST, and that makes the peer's kernel
    /// drop what it had not delivered yet (RFC 1122, section 4.2.2.13). A connection whose time is
    /// over ends with RST if bytes are left: the kernel would keep them for minutes.
    ///
    /// # Errors
    ///
    /// As `shutdown(2)` and `recv(2)`; a peer that does not finish in time, or does not take what
    /// was sent, is `TimedOut`.
    pub fn close(mut self, linger_timeout: Duration) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let deadline = Instant::now() + linger_timeout;
        let ended =
            self.discard_until_end(deadline).and_then(|()| self.await_acknowledgement(deadline));
        if ended.is_err() && !self.is_acknowledged()? {
            socket::reset_on_close(self.stream.as_fd());
        }
        ended
    }

    /// Whether all bytes that were sent are acknowledged. Our FIN, which comes after them, may not
    /// be.
    fn is_acknowledged(&self) -> io::Result<bool> {
        Ok(sys::unacknowledged(&self.stream)? <= 1)
    }

    fn await_acknowledgement(&self, deadline: Instant) -> io::Result<()> {
        // No event reports it.
        let mut pause = LOOK_MIN;
        while !self.is_acknowledged()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LOOK_MAX);
        }
        Ok(())
    }

    fn discard_until_end(&mut self, deadline: Instant) -> io::Result<()> {
        let mut discarded = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut discarded) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The stream, for its options and addresses.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (BlockingConnection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (BlockingConnection::new(stream, 2000).unwrap(), peer)
    }

    #[test]
    fn frames_go_out_and_come_in() {
        let (mut connection, peer) = pair();
        let mut peer = BlockingConnection::new(peer, 2000).unwrap();
        for payload in [&b"hello"[..], b"", &[7; 2000]] {
            connection.send_frame(payload).unwrap();
            assert_eq!(peer.recv_frame().unwrap(), payload);
        }
        drop(peer);
        assert!(matches!(connection.recv_frame(), Err(RecvFrameError::Closed)));
    }

    #[test]
    fn a_frame_that_breaks_off_says_how_much_had_arrived() {
        for have in 1..HEADER_LEN + 5 {
            let (mut connection, mut peer) = pair();
            peer.write_all(&b"\0\0\0\x05hello"[..have]).unwrap();
            drop(peer);
            match connection.recv_frame() {
                Err(RecvFrameError::Incomplete { have: arrived, source }) => {
                    assert_eq!(arrived, have);
                    assert!(matches!(source, ExactError::Disconnected { .. }));
                }
                other => panic!("after {have} bytes: {other:?}"),
            }
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_after_the_header() {
        let (mut connection, mut peer) = pair();
        peer.write_all(&2001u32.to_be_bytes()).unwrap();
        assert!(matches!(
            connection.recv_frame(),
            Err(RecvFrameError::TooLarge { declared: 2001, max_payload: 2000 })
        ));
    }

    #[test]
    fn an_orderly_close_delivers_what_was_sent_although_bytes_are_unread() {
        let (mut connection, mut peer) = pair();
        peer.write_all(b"never read by the other side").unwrap();
        connection.send_frame(b"last answer").unwrap();
        let closing = std::thread::spawn(move || connection.close(Duration::from_secs(20)));
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"\0\0\0\x0blast answer");
        peer.shutdown(Shutdown::Write).unwrap();
        closing.join().unwrap().unwrap();
    }

    /// Sends more than the kernels hold for a peer that reads nothing, has finished, and goes on
    /// like that.
    fn close_before_a_peer_that_reads(
        how_much: Option<usize>,
        patience: Duration,
    ) -> io::Result<()> {
        let (connection, mut peer) = pair();
        peer.shutdown(Shutdown::Write).unwrap();
        connection.stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = (&connection.stream).write(&[0; 65_536]) {
            sent += count;
        }
        connection.stream.set_nonblocking(false).unwrap();
        let closing = std::thread::spawn(move || connection.close(patience));
        let mut taken = vec![0; how_much.unwrap_or(sent)];
        peer.read_exact(&mut taken).unwrap();
        closing.join().unwrap()
    }

    #[test]
    fn an_orderly_close_waits_until_a_peer_that_has_finished_has_what_was_sent() {
        close_before_a_peer_that_reads(None, Duration::from_secs(20)).unwrap();
        let outcome = close_before_a_peer_that_reads(Some(0), Duration::from_millis(50));
        assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    }

    #[test]
    fn an_orderly_close_does_not_wait_for_ever() {
        let (connection, _peer) = pair();
        let outcome = connection.close(Duration::from_millis(20));
        assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    }
}
