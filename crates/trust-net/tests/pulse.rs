//! Signs of life, which need every worker.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::{DEADLINE, MODELS, config, frame, ip_of, read_exactly};
use trust_net::wire::Frames;
use trust_net::{
    Event, Handle, Model, Observer, Peer, Reply, Server, ServerConfig, Service, Session, Summary,
};

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
        let started = Instant::now();
        while self.count() <= count {
            assert!(started.elapsed() < DEADLINE, "no other sign of life");
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Echoes, but its worker hangs at each frame `hang`, and reports how many signs there were
/// meanwhile. The worker counts them itself: another thread may be late on a busy machine, when
/// there are signs again.
#[derive(Clone)]
struct Hangs {
    signs: Arc<Signs>,
    tell: mpsc::Sender<u64>,
}

impl Service for Hangs {
    type Session = Hangs;

    fn accept(&self, _peer: Peer) -> Hangs {
        self.clone()
    }
}

impl Session for Hangs {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        if frames.into_iter().any(|payload| payload == b"hang") {
            let before = self.signs.count();
            thread::sleep(HANG);
            self.tell.send(self.signs.count() - before).expect("the test listens");
        }
        reply.send_back(frames);
    }
}

struct Watched {
    address: SocketAddr,
    handle: Handle,
    signs: Arc<Signs>,
    during: mpsc::Receiver<u64>,
    server: JoinHandle<Summary>,
}

fn start(model: Model, workers: usize, pulse: Option<Duration>) -> Watched {
    let signs = Arc::new(Signs::default());
    let (tell, during) = mpsc::channel();
    let service = Hangs { signs: Arc::clone(&signs), tell };
    let config = ServerConfig { workers, pulse, ..config(model) };
    let observer = Arc::clone(&signs) as Arc<dyn Observer>;
    let server = Server::bind(config, service, observer).expect("a free port");
    let (address, handle) = (ip_of(&server), server.handle());
    let server = thread::spawn(move || server.run().expect("the event loop works"));
    Watched { address, handle, signs, during, server }
}

#[test]
fn signs_come_without_clients_and_stop_while_one_worker_hangs() {
    for (model, workers) in MODELS.into_iter().zip([3, 1]) {
        let Watched { address, handle, signs, during, server } =
            start(model.clone(), workers, Some(PULSE));
        signs.wait_for_more_than(5);
        let mut peer = std::net::TcpStream::connect(address).expect("it listens");
        peer.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        // Also while a client is silent.
        signs.wait_for_more_than(signs.count() + 5);
        peer.write_all(&frame(b"hang")).expect("it is open");
        read_exactly(&mut peer, 8);
        // The round in which it began to hang may have been counted already, and so may the one
        // after.
        let during = during.try_recv().expect("it has hung");
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
