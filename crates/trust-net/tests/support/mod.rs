//! What the tests of servers over real sockets share: a server on a thread of its own, and a diary
//! of its events.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "each target is a crate of its own and uses its own part of this")]

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use trust_net::wire::Frames;
use trust_net::{
    Address, Event, Handle, Model, Observer, Peer, Reply, Server, ServerConfig, Service, Session,
    Summary,
};

/// Longer than anything here takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const MODELS: [Model; 2] = [Model::Event, Model::Iterative];

/// Remembers what happened, and lets a test wait for it.
#[derive(Default)]
pub(crate) struct Diary {
    entries: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Observer for Diary {
    fn observe(&self, event: &Event<'_>) {
        let entry = match event {
            Event::Connected(client) => format!("connected {}", client.id),
            Event::Closed { client, cause, .. } => {
                format!("closed {} {:?}", client.id, cause.reason)
            }
            Event::Rejected { .. } => "rejected".to_owned(),
            Event::DrainStarted { active } => format!("drain of {active}"),
            _ => return,
        };
        self.entries.lock().unwrap().push(entry);
        self.changed.notify_all();
    }
}

impl Diary {
    pub(crate) fn wait_for(&self, wanted: &str) {
        let entries = self.entries.lock().unwrap();
        let is_missing = |entries: &mut Vec<String>| !entries.iter().any(|entry| entry == wanted);
        let (entries, waited) =
            self.changed.wait_timeout_while(entries, DEADLINE, is_missing).unwrap();
        assert!(!waited.timed_out(), "no {wanted:?} in {entries:?}");
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Vec<String>> {
        self.entries.lock().unwrap()
    }

    pub(crate) fn reasons(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        let closed = entries.iter().filter_map(|entry| entry.strip_prefix("closed "));
        closed.map(|entry| entry.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) diary: Arc<Diary>,
    pub(crate) server: Option<JoinHandle<Summary>>,
}

pub(crate) fn config(model: Model) -> ServerConfig {
    let addresses = vec![Address::Ip("127.0.0.1:0".parse().unwrap())];
    ServerConfig { addresses, model, ..ServerConfig::new(0) }
}

/// Where a server on TCP listens.
pub(crate) fn ip_of<S: Service>(server: &Server<S>) -> SocketAddr {
    server.local_addr().ip().unwrap()
}

pub(crate) fn start(config: ServerConfig, service: impl Service) -> Running {
    let diary = Arc::new(Diary::default());
    let server = Server::bind(config, service, Arc::clone(&diary) as Arc<dyn Observer>).unwrap();
    let (address, handle) = (ip_of(&server), server.handle());
    let server = std::thread::spawn(move || server.run().unwrap());
    Running { address, handle, diary, server: Some(server) }
}

impl Running {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) fn finish(mut self) -> (Summary, Arc<Diary>) {
        self.handle.drain();
        let summary = self.server.take().unwrap().join().unwrap();
        (summary, Arc::clone(&self.diary))
    }
}

/// A failing test does not leave its server behind.
impl Drop for Running {
    fn drop(&mut self) {
        self.handle.cut();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    trust_net::wire::frame::encode_frame(payload, &mut frame);
    frame
}

pub(crate) fn read_exactly(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Echoes, but a frame `sleep` keeps its worker busy for so long, and `nap` for a little; and how
/// often that was.
pub(crate) struct Sleepy(pub(crate) Duration, pub(crate) Arc<AtomicI64>);

pub(crate) struct SleepySession(Duration, Arc<AtomicI64>);

impl Service for Sleepy {
    type Session = SleepySession;

    fn accept(&self, _peer: Peer) -> SleepySession {
        SleepySession(self.0, Arc::clone(&self.1))
    }
}

impl Session for SleepySession {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        for (word, length) in [(&b"sleep"[..], self.0), (b"nap", self.0 / 20)] {
            if frames.into_iter().any(|payload| payload == word) {
                self.1.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(length);
            }
        }
        reply.send_back(frames);
    }
}
