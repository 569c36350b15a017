//! What a right server may be short of: time, slots, room in its queues.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// What a server must manage with. These are no bugs: it serves correctly, only later or fewer
/// clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constraints {
    /// Time that it spends on each message before it answers.
    pub(crate) service_time: Duration,
    /// Clients that it serves at the same time; others are closed as soon as they are accepted.
    pub(crate) clients_max: Option<usize>,
    /// It accepts a client once the previous one has left.
    pub(crate) one_at_a_time: bool,
    /// Length of the accept queue, as for `listen(2)`.
    pub(crate) backlog: i32,
    /// Send and receive buffers are as small as the kernel allows.
    pub(crate) small_buffers: bool,
}

/// No shortage of anything.
pub(crate) const NONE: Constraints = Constraints {
    service_time: Duration::ZERO,
    clients_max: None,
    one_at_a_time: false,
    // Rust's own backlog of 128 is less than the suite's floods need.
    backlog: 4096,
    small_buffers: false,
};

/// The number of slots taken.
static PLACES_TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A client's slot, released when dropped.
#[derive(Debug)]
struct Place(());

impl Constraints {
    /// Listens on a free port.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        rustix::net::listen(&listener, self.backlog)?;
        if self.small_buffers {
            // Accepted sockets inherit both; the kernel raises a size of one byte to its minimum.
            let socket = SockRef::from(&listener);
            socket.set_recv_buffer_size(1)?;
            socket.set_send_buffer_size(1)?;
        }
        Ok(listener)
    }

    /// A slot for an accepted client, if one is free.
    fn admit(&self) -> Option<Place> {
        let most = self.clients_max.unwrap_or(usize::MAX);
        let take = |taken: usize| (taken < most).then_some(taken + 1);
        PLACES_TAKEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok().map(|_| Place(()))
    }

    /// Works on a message for the service time.
    pub(crate) fn work(&self) {
        thread::sleep(self.service_time);
    }

    /// Serves a client with `serve`, in parallel with others or before them.
    pub(crate) fn serve(
        &self,
        stream: Arc<TcpStream>,
        serve: impl FnOnce(&TcpStream) + Send + 'static,
    ) {
        let Some(place) = self.admit() else { return };
        let serve = move || {
            serve(&stream);
            drop(stream);
            drop(place);
        };
        if self.one_at_a_time {
            return serve();
        }
        // A server that cannot start a thread disconnects the client.
        drop(thread::Builder::new().spawn(serve));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PLACES_TAKEN.fetch_sub(1, Ordering::SeqCst);
    }
}
