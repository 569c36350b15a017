//! A well-behaved client beside a misbehaving one: the server must serve it as well as ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::peer::{Peer, pattern};

/// Longest time for one echo to a well-behaved client, even on a busy machine.
pub const ECHO_DEADLINE: Duration = Duration::from_secs(2);

/// Pause between two echoes, so that the witness itself is hardly any load.
const PAUSE: Duration = Duration::from_millis(5);

/// A client that has its frames echoed until it is dropped or told to leave.
pub struct Witness {
    address: SocketAddr,
    echoes: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Connects and has a first frame echoed.
    #[track_caller]
    pub fn connect(server: SocketAddr) -> Witness {
        let mut peer = Peer::connect(server);
        let address = peer.address();
        echo(&mut peer, 1);
        let (echoes, ends) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
        let (counted, asked) = (Arc::clone(&echoes), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !asked.load(Ordering::SeqCst) {
                echo(&mut peer, counted.fetch_add(1, Ordering::SeqCst));
                thread::park_timeout(PAUSE);
            }
            peer.half_close();
            peer.receives_end();
        });
        Witness { address, echoes, ends, thread: Some(thread) }
    }

    /// Its address, the `peer` of the server's events.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Checks that all echoes so far were exact and in time, and that another one comes.
    #[track_caller]
    pub fn is_well(&self) {
        let before = self.echoes.load(Ordering::SeqCst);
        let started = Instant::now();
        while self.echoes.load(Ordering::SeqCst) < before + 2 {
            let is_alive = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            assert!(is_alive, "a client that behaved was not served, after {before} echoes");
            let waited = started.elapsed();
            assert!(waited < 2 * ECHO_DEADLINE, "a client that behaved waited for {waited:?}");
            thread::park_timeout(PAUSE);
        }
    }

    /// Ends the connection with an orderly close, and checks that it was served well to the end.
    #[track_caller]
    pub fn leaves(mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("it leaves once");
        assert!(thread.join().is_ok(), "a client that behaved was not served to its end");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
    }
}

#[track_caller]
fn echo(peer: &mut Peer, number: u64) {
    let payload = pattern(1 + (number as usize * 97) % 1500);
    let started = Instant::now();
    peer.send_frame(&payload);
    peer.receives_frame(&payload);
    let took = started.elapsed();
    assert!(took < ECHO_DEADLINE, "echo {number} of a client that behaved took {took:?}");
}
