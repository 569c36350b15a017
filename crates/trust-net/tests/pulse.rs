//! Signs of life, which need every worker.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::{DEADLINE, MODELS, Sleepy, config, frame, read_exactly};
use trust_net::{Event, Handle, Model, Observer, Server, ServerConfig, Summary};

/// How often signs are asked for, and how long a worker hangs: many times that.
const PULSE: Duration = Duration::from_millis(10);
const HANG: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Signs(AtomicU64);

impl Observer for Signs {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Alive = event {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Signs {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn wait_for_more_than(&self, count: u64) {
        wait_until("another sign of life", || self.count() > count);
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "no {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

struct Watched {
    address: std::net::SocketAddr,
    handle: Handle,
    signs: Arc<Signs>,
    naps: Arc<AtomicI64>,
    server: JoinHandle<Summary>,
}

fn start(model: Model, workers: usize, pulse: Option<Duration>) -> Watched {
    let signs = Arc::new(Signs::default());
    let naps = Arc::new(AtomicI64::new(0));
    let service = Sleepy(HANG, Arc::clone(&naps));
    let config = ServerConfig { workers, pulse, ..config(model) };
    let observer = Arc::clone(&signs) as Arc<dyn Observer>;
    let server = Server::bind(config, service, observer).expect("a free port");
    let (address, handle) = (server.local_addr(), server.handle());
    let server = thread::spawn(move || server.run().expect("the event loop works"));
    Watched { address, handle, signs, naps, server }
}

#[test]
fn signs_come_without_clients_and_stop_while_one_worker_hangs() {
    for (model, workers) in MODELS.into_iter().zip([3, 1]) {
        let Watched { address, handle, signs, naps, server } = start(model, workers, Some(PULSE));
        signs.wait_for_more_than(5);
        let mut peer = std::net::TcpStream::connect(address).expect("it listens");
        peer.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        // Also while a client is silent.
        signs.wait_for_more_than(signs.count() + 5);
        peer.write_all(&frame(b"sleep")).expect("it is open");
        wait_until("nap", || naps.load(Ordering::SeqCst) == 1);
        let before = signs.count();
        read_exactly(&mut peer, 9);
        // The round in which it began to hang may have been counted already, and the one after may be.
        let during = signs.count() - before;
        assert!(during <= 2, "{during} signs of {model:?} while a worker was hanging");
        signs.wait_for_more_than(signs.count() + 5);
        drop(peer);
        handle.drain();
        server.join().expect("no panic");
    }
}

#[test]
fn nobody_makes_a_sign_unless_asked() {
    let Watched { address, handle, signs, server, .. } = start(Model::Event, 2, None);
    let mut peer = std::net::TcpStream::connect(address).expect("it listens");
    peer.write_all(&frame(b"hello")).expect("it is open");
    read_exactly(&mut peer, 9);
    handle.drain();
    drop(peer);
    server.join().expect("no panic");
    assert_eq!(signs.count(), 0);
}
