//! Receive and send an exact number of bytes.
//!
//! One `recv(2)` returns what happens to be there, and one `send(2)` takes what happens to fit.
//! These two functions go on until all bytes are through, and tell apart the ways in which that can
//! fail.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::errno::{self, ErrorClass, Operation};

/// The two socket calls that exact I/O needs, so that a test can put a script in the socket's
/// place.
///
/// ```
/// use std::io;
/// use trust_net::{Stream, recv_exact};
///
/// /// Has one byte at a time, as a slow network does.
/// struct Slow(&'static [u8]);
///
/// impl Stream for Slow {
///     fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
///         let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
///         buffer[0] = *first;
///         self.0 = rest;
///         Ok(1)
///     }
///     fn send(&mut self, _bytes: &[u8]) -> io::Result<usize> {
///         Err(io::ErrorKind::Unsupported.into())
///     }
/// }
///
/// let mut message = [0; 5];
/// recv_exact(&mut Slow(b"hello, world"), &mut message)?;
/// assert_eq!(&message, b"hello");
/// # Ok::<(), trust_net::ExactError>(())
/// ```
pub trait Stream {
    /// Receives at least one byte; 0 means that the peer sent FIN (`recv(2)`).
    ///
    /// # Errors
    ///
    /// What the socket reports. `WouldBlock` means that the socket's timeout has passed.
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends at least one byte (`send(2)`), without raising SIGPIPE.
    ///
    /// # Errors
    ///
    /// As [`Stream::recv`].
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// A signal interrupted a call, which is now repeated: the place to look at a stop flag.
    ///
    /// # Errors
    ///
    /// An error here ends the operation, as if the call had reported it.
    fn handle_interrupt(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// std sends with MSG_NOSIGNAL.
impl Stream for TcpStream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }
}

impl<S: Stream + ?Sized> Stream for &mut S {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).recv(buffer)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (**self).send(bytes)
    }

    fn handle_interrupt(&mut self) -> io::Result<()> {
        (**self).handle_interrupt()
    }
}

/// Why not all bytes went through. `transferred` says how many did.
#[derive(Debug, thiserror::Error)]
pub enum ExactError {
    /// The peer is gone in the ordinary way: FIN while receiving, EPIPE while sending.
    #[error("the peer disconnected after {transferred} bytes")]
    Disconnected {
        /// Bytes that went through before.
        transferred: usize,
    },
    /// The socket's timeout passed (EAGAIN under SO_RCVTIMEO or SO_SNDTIMEO, `socket(7)`).
    #[error("timed out after {transferred} bytes")]
    TimedOut {
        /// Bytes that went through before.
        transferred: usize,
    },
    /// The peer sent RST (ECONNRESET).
    #[error("the peer reset the connection after {transferred} bytes")]
    Reset {
        /// Bytes that went through before.
        transferred: usize,
    },
    /// Anything else that the socket reported.
    #[error("failed after {transferred} bytes: {source}")]
    Failed {
        /// Bytes that went through before.
        transferred: usize,
        /// What the socket reported.
        source: io::Error,
    },
}

impl ExactError {
    /// Bytes that went through before.
    pub fn transferred(&self) -> usize {
        match self {
            ExactError::Disconnected { transferred }
            | ExactError::TimedOut { transferred }
            | ExactError::Reset { transferred }
            | ExactError::Failed { transferred, .. } => *transferred,
        }
    }

    fn new(transferred: usize, source: io::Error) -> ExactError {
        match errno::classify(errno::of(&source), Operation::Receive) {
            ErrorClass::WouldBlock => ExactError::TimedOut { transferred },
            ErrorClass::Reset => ExactError::Reset { transferred },
            ErrorClass::BrokenPipe => ExactError::Disconnected { transferred },
            _ => ExactError::Failed { transferred, source },
        }
    }
}

/// Receives until `buffer` is full. An empty buffer is full. SO_RCVTIMEO of the stream
/// (`TcpStream::set_read_timeout`) bounds each wait, not all of them together.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use trust_net::{ExactError, recv_exact, send_exact};
///
/// let listener = TcpListener::bind(("127.0.0.1", 0))?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
/// send_exact(&mut client, b"header+pay")?;
/// drop(client);
///
/// let mut header = [0; 7];
/// recv_exact(&mut server, &mut header)?;
/// assert_eq!(&header, b"header+");
///
/// // The peer closes in the middle of the payload.
/// let mut payload = [0; 7];
/// let error = recv_exact(&mut server, &mut payload).expect_err("four bytes are missing");
/// assert!(matches!(error, ExactError::Disconnected { transferred: 3 }));
/// assert_eq!(&payload[..error.transferred()], b"pay");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ExactError`], with `buffer[..transferred]` being what had arrived.
pub fn recv_exact<S: Stream + ?Sized>(stream: &mut S, buffer: &mut [u8]) -> Result<(), ExactError> {
    let mut received = 0;
    while received < buffer.len() {
        match uninterrupted(stream, |stream| stream.recv(&mut buffer[received..])) {
            Ok(0) => return Err(ExactError::Disconnected { transferred: received }),
            Ok(count) => received += count,
            Err(error) => return Err(ExactError::new(received, error)),
        }
    }
    Ok(())
}

/// Sends all of `bytes`: to the kernel, which is not to say that the peer has them. SO_SNDTIMEO of
/// the stream (`TcpStream::set_write_timeout`) bounds each wait, not all of them together.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use std::time::Duration;
/// use trust_net::{ExactError, send_exact};
///
/// let listener = TcpListener::bind(("127.0.0.1", 0))?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// client.set_write_timeout(Some(Duration::from_millis(20)))?;
///
/// // The server reads nothing, so at last the kernel's buffers are full.
/// let bytes = [0; 65_536];
/// let error = loop {
///     if let Err(error) = send_exact(&mut client, &bytes) {
///         break error;
///     }
/// };
/// assert!(matches!(error, ExactError::TimedOut { .. }));
/// assert!(error.transferred() < bytes.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ExactError`], with `bytes[..transferred]` being what the kernel took.
pub fn send_exact<S: Stream + ?Sized>(stream: &mut S, bytes: &[u8]) -> Result<(), ExactError> {
    let mut sent = 0;
    while sent < bytes.len() {
        match uninterrupted(stream, |stream| stream.send(&bytes[sent..])) {
            // Never seen from a TCP socket; going on would be a loop without an end.
            Ok(0) => return Err(ExactError::Disconnected { transferred: sent }),
            Ok(count) => sent += count,
            Err(error) => return Err(ExactError::new(sent, error)),
        }
    }
    Ok(())
}

/// Repeats a call that a signal interrupted (EINTR, `signal(7)`).
fn uninterrupted<S: Stream + ?Sized>(
    stream: &mut S,
    mut call: impl FnMut(&mut S) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match call(stream) {
            Err(error) if error.kind() == ErrorKind::Interrupted => stream.handle_interrupt()?,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const EINTR: i32 = 4;
    const EAGAIN: i32 = 11;
    const EPIPE: i32 = 32;
    const ECONNRESET: i32 = 104;
    const ETIMEDOUT: i32 = 110;

    const MESSAGE: &[u8] = b"message";

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// The socket has, or takes, this many bytes.
        Bytes(usize),
        EndOfStream,
        Errno(i32),
    }

    /// A socket that follows a script; a call after its end is a failure of the test.
    struct Scripted {
        script: VecDeque<Step>,
        to_receive: &'static [u8],
        sent: Vec<u8>,
        interrupts: usize,
        stop_at_interrupt: bool,
    }

    impl Scripted {
        fn new(script: impl IntoIterator<Item = Step>) -> Scripted {
            Scripted {
                script: script.into_iter().collect(),
                to_receive: MESSAGE,
                sent: vec![],
                interrupts: 0,
                stop_at_interrupt: false,
            }
        }

        fn step(&mut self, room: usize) -> io::Result<usize> {
            match self.script.pop_front().expect("no call beyond the script") {
                Step::Bytes(count) => {
                    assert!(count <= room, "the script has more than fits");
                    Ok(count)
                }
                Step::EndOfStream => Ok(0),
                Step::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    impl Stream for Scripted {
        fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step(buffer.len())?;
            let (bytes, rest) = self.to_receive.split_at(count);
            buffer[..count].copy_from_slice(bytes);
            self.to_receive = rest;
            Ok(count)
        }

        fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.step(bytes.len())?;
            self.sent.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn handle_interrupt(&mut self) -> io::Result<()> {
            self.interrupts += 1;
            match self.stop_at_interrupt {
                true => Err(io::Error::from_raw_os_error(EAGAIN)),
                false => Ok(()),
            }
        }
    }

    /// Every way to cut `len` bytes into pieces.
    fn splits(len: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..1u32 << (len - 1)).map(move |cuts| {
            let mut pieces = vec![1];
            for bit in 0..len - 1 {
                match cuts >> bit & 1 {
                    1 => pieces.push(1),
                    _ => *pieces.last_mut().unwrap() += 1,
                }
            }
            pieces
        })
    }

    /// The first `count` bytes one by one, then `last`.
    fn bytes_then(count: usize, last: Step) -> impl Iterator<Item = Step> {
        std::iter::repeat_n(Step::Bytes(1), count).chain([last])
    }

    fn receive(socket: &mut Scripted) -> (Result<(), ExactError>, Vec<u8>) {
        let mut buffer = vec![0; MESSAGE.len()];
        let outcome = recv_exact(socket, &mut buffer);
        (outcome, buffer)
    }

    #[test]
    fn every_split_of_a_message_is_received_whole() {
        for pieces in splits(MESSAGE.len()) {
            let mut socket = Scripted::new(pieces.iter().map(|piece| Step::Bytes(*piece)));
            let (outcome, buffer) = receive(&mut socket);
            assert!(outcome.is_ok(), "{pieces:?}: {outcome:?}");
            assert_eq!(buffer, MESSAGE, "{pieces:?}");
        }
    }

    #[test]
    fn every_series_of_short_sends_sends_the_message_once() {
        for pieces in splits(MESSAGE.len()) {
            let mut socket = Scripted::new(pieces.iter().map(|piece| Step::Bytes(*piece)));
            assert!(send_exact(&mut socket, MESSAGE).is_ok(), "{pieces:?}");
            assert_eq!(socket.sent, MESSAGE, "{pieces:?}");
        }
    }

    #[test]
    fn an_interrupt_before_every_call_changes_nothing() {
        for pieces in splits(MESSAGE.len()) {
            let script: Vec<Step> = pieces
                .iter()
                .flat_map(|piece| [Step::Errno(EINTR), Step::Errno(EINTR), Step::Bytes(*piece)])
                .collect();
            let mut socket = Scripted::new(script.clone());
            let (outcome, buffer) = receive(&mut socket);
            assert!(outcome.is_ok());
            assert_eq!((buffer.as_slice(), socket.interrupts), (MESSAGE, 2 * pieces.len()));

            let mut socket = Scripted::new(script);
            assert!(send_exact(&mut socket, MESSAGE).is_ok());
            assert_eq!((socket.sent.as_slice(), socket.interrupts), (MESSAGE, 2 * pieces.len()));
        }
    }

    #[test]
    fn a_stop_flag_seen_at_an_interrupt_ends_the_call() {
        let mut socket = Scripted::new(bytes_then(3, Step::Errno(EINTR)));
        socket.stop_at_interrupt = true;
        let (outcome, _) = receive(&mut socket);
        assert!(matches!(outcome, Err(ExactError::TimedOut { transferred: 3 })), "{outcome:?}");
    }

    #[test]
    fn end_of_stream_after_every_byte_is_a_disconnect_with_what_had_arrived() {
        for count in 0..MESSAGE.len() {
            let (outcome, buffer) =
                receive(&mut Scripted::new(bytes_then(count, Step::EndOfStream)));
            match outcome {
                Err(ExactError::Disconnected { transferred }) => assert_eq!(transferred, count),
                other => panic!("after {count} bytes: {other:?}"),
            }
            assert_eq!(buffer[..count], MESSAGE[..count]);
        }
    }

    #[test]
    fn a_reset_after_every_byte_is_told_from_a_disconnect() {
        for count in 0..MESSAGE.len() {
            let reset = || Scripted::new(bytes_then(count, Step::Errno(ECONNRESET)));
            let (received, buffer) = receive(&mut reset());
            let sent = send_exact(&mut reset(), MESSAGE);
            for outcome in [received, sent] {
                match outcome {
                    Err(ExactError::Reset { transferred }) => assert_eq!(transferred, count),
                    other => panic!("after {count} bytes: {other:?}"),
                }
            }
            assert_eq!(buffer[..count], MESSAGE[..count]);
        }
    }

    #[test]
    fn a_timeout_after_every_byte_says_how_far_it_got() {
        for count in 0..MESSAGE.len() {
            let slow = || Scripted::new(bytes_then(count, Step::Errno(EAGAIN)));
            for outcome in [receive(&mut slow()).0, send_exact(&mut slow(), MESSAGE)] {
                match outcome {
                    Err(ExactError::TimedOut { transferred }) => assert_eq!(transferred, count),
                    other => panic!("after {count} bytes: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_broken_pipe_is_a_disconnect_of_the_sender() {
        let outcome = send_exact(&mut Scripted::new(bytes_then(2, Step::Errno(EPIPE))), MESSAGE);
        assert!(matches!(outcome, Err(ExactError::Disconnected { transferred: 2 })));
    }

    #[test]
    fn a_host_that_does_not_answer_is_no_timeout_of_the_socket() {
        let (outcome, _) = receive(&mut Scripted::new(bytes_then(1, Step::Errno(ETIMEDOUT))));
        match outcome {
            Err(ExactError::Failed { transferred: 1, source }) => {
                assert_eq!(source.raw_os_error(), Some(ETIMEDOUT));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_to_do_needs_no_call() {
        assert!(recv_exact(&mut Scripted::new([]), &mut []).is_ok());
        assert!(send_exact(&mut Scripted::new([]), &[]).is_ok());
    }
}
