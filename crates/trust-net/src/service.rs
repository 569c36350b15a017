//! What users of the server write: what to answer.

use std::io;

use socket2::Socket;
use trust_wire::{Disconnect, Frames, frame};

use crate::address::Peer;

/// A service: makes a [`Session`] for every client.
///
/// One value serves all worker threads.
///
/// ```
/// use std::net::TcpStream;
/// use std::sync::Arc;
/// use std::thread;
/// use std::time::Duration;
/// use trust_net::wire::Frames;
/// use trust_net::{BlockingConnection, Peer, Reply, Server, ServerConfig, Service, Session};
///
/// /// Answers each frame with the number of bytes that the client has sent so far.
/// struct Counting;
///
/// /// What one client has sent.
/// struct Count(usize);
///
/// impl Service for Counting {
///     type Session = Count;
///
///     fn accept(&self, _peer: Peer) -> Count {
///         Count(0)
///     }
/// }
///
/// impl Session for Count {
///     fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
///         for payload in frames {
///             self.0 += payload.len();
///             reply.write_frame(self.0.to_string().as_bytes());
///         }
///     }
/// }
///
/// let addresses = vec![([127, 0, 0, 1], 0).into()];
/// let config = ServerConfig { addresses, ..ServerConfig::new(0) };
/// let server = Server::bind(config, Counting, Arc::new(()))?;
/// let address = server.local_addr().ip().expect("a TCP address");
/// let handle = server.handle();
/// let serving = thread::spawn(move || server.run());
///
/// let mut client = BlockingConnection::new(TcpStream::connect(address)?, 1000)?;
/// client.send_frame(b"abc")?;
/// client.send_frame(b"de")?;
/// assert_eq!((client.recv_frame()?, client.recv_frame()?), (b"3".to_vec(), b"5".to_vec()));
/// client.close(Duration::from_secs(5))?;
///
/// handle.drain();
/// serving.join().expect("the server does not panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Service: Send + Sync + 'static {
    /// What belongs to one connection. It is made on accept and dropped however the connection
    /// ends, so that its resources need no release of their own.
    type Session: Session;

    /// Sets options of the listening socket before it is bound; accepted sockets inherit most of
    /// them (`tcp(7)`).
    ///
    /// # Errors
    ///
    /// An error here keeps the server from starting.
    fn configure_listener(&self, _socket: &Socket) -> io::Result<()> {
        Ok(())
    }

    /// A client was accepted. Where connections begin with a PROXY header, it has come, and `peer`
    /// is the client that it names. A connection that ends without one has no session.
    fn accept(&self, peer: Peer) -> Self::Session;
}

/// One client of a [`Service`]. All of it runs on one thread, which it must not block.
pub trait Session {
    /// Whole frames came, as many as one receive brought in: answers them.
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>);

    /// Bytes came on a connection without framing. Unless it is overridden they are discarded
    /// (RFC 863); with [`trust_wire::Mode::Framed`] it is never called.
    fn receive_raw<'a>(&mut self, _bytes: &'a [u8], _reply: &mut Reply<'a>) {}

    /// Everything that was owed to a slow reader has now been handed to the kernel.
    fn handle_drained(&mut self) {}

    /// The connection has ended.
    fn close(self, _disconnect: &Disconnect)
    where
        Self: Sized,
    {
    }
}

/// The answer to what one receive brought in; it is sent with one call.
///
/// Bytes that are sent back are not copied; they come before whatever is written.
#[derive(Debug)]
pub struct Reply<'a> {
    sent_back: [&'a [u8]; 2],
    written: Vec<u8>,
    frames: u64,
}

impl<'a> Reply<'a> {
    /// An empty answer; `buffer` is cleared and reused.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Reply<'a> {
        buffer.clear();
        Reply { sent_back: [&[]; 2], written: buffer, frames: 0 }
    }

    /// Answers with the very frames that came.
    pub fn send_back(&mut self, frames: Frames<'a>) {
        self.frames += frames.count();
        self.put_parts(frames.parts());
    }

    /// Answers with the very bytes that came; for connections without framing.
    pub fn send_back_raw(&mut self, bytes: &'a [u8]) {
        self.put_parts([bytes, &[]]);
    }

    /// Answers with a frame.
    ///
    /// # Panics
    ///
    /// If the payload is longer than `u32::MAX` bytes.
    pub fn write_frame(&mut self, payload: &[u8]) {
        self.frames += 1;
        frame::encode_frame(payload, &mut self.written);
    }

    /// Answers with bytes; for connections without framing.
    pub fn write_raw(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
    }

    /// The bytes in the order in which they are sent: those sent back, then those written; and the
    /// number of frames in them.
    pub(crate) fn into_parts(self) -> ([&'a [u8]; 2], Vec<u8>, u64) {
        (self.sent_back, self.written, self.frames)
    }

    fn put_parts(&mut self, parts: [&'a [u8]; 2]) {
        if let ([[], []], true) = (self.sent_back, self.written.is_empty()) {
            self.sent_back = parts;
        } else {
            parts.iter().for_each(|part| self.written.extend_from_slice(part));
        }
    }
}

/// The echo service: every frame, and every byte of a connection without framing, goes back as it
/// came (RFC 862).
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Service for Echo {
    type Session = Echo;

    fn accept(&self, _peer: Peer) -> Echo {
        Echo
    }
}

impl Session for Echo {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        reply.send_back(frames);
    }

    fn receive_raw<'a>(&mut self, bytes: &'a [u8], reply: &mut Reply<'a>) {
        reply.send_back_raw(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_back_first_is_not_copied_and_the_order_is_kept() {
        let received = b"in place".to_vec();
        let mut reply = Reply::new(vec![]);
        reply.send_back_raw(&received);
        reply.write_raw(b", written");
        reply.send_back_raw(b", again");
        let ([first, second], written, frames) = reply.into_parts();
        assert_eq!(first.as_ptr(), received.as_ptr());
        assert_eq!([first, second, &written].concat(), b"in place, written, again");
        assert_eq!(frames, 0);
    }
}
