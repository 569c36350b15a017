//! Asking for events without sleeping: only for as long as it was asked for.
//!
//! A file of its own, because what is looked at is the CPU time of the whole process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use trust_net::observer::{Event, Observer};
use trust_net::service::Echo;
use trust_net::{Address, Server, ServerConfig};

/// How long the idle server is watched.
const WATCHED: Duration = Duration::from_millis(400);

/// How often it is looked at its CPU time.
const LOOK: Duration = Duration::from_millis(10);

/// Longer than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Event<'_>) {}
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("not negative")
}

fn echo_once(address: SocketAddr) -> TcpStream {
    let mut peer = TcpStream::connect(address).expect("connects");
    let (frame, mut echo) = (b"\0\0\0\x02hi", [0; 6]);
    peer.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    peer.write_all(frame).expect("sends");
    peer.read_exact(&mut echo).expect("receives");
    assert_eq!(&echo, frame);
    peer
}

/// CPU time that a server uses right after an echo, in so much time or until it is as much as that.
fn cpu_after_an_echo(busy_poll: Duration, time: Duration, enough: Duration) -> Duration {
    let addresses = vec![Address::Ip("127.0.0.1:0".parse().expect("an address"))];
    let config = ServerConfig { addresses, busy_poll, workers: 2, ..ServerConfig::new(0) };
    let server = Server::bind(config, Echo, Arc::new(Silent)).expect("listens");
    let (address, handle) = (server.local_addr().ip().expect("TCP"), server.handle());
    let running = thread::spawn(move || server.run());
    let peer = echo_once(address);
    let (since, before) = (Instant::now(), cpu_time());
    while since.elapsed() < time && cpu_time() - before < enough {
        thread::sleep(LOOK);
    }
    let used = cpu_time() - before;
    drop(peer);
    handle.drain();
    running.join().expect("no panic").expect("no error");
    used
}

#[test]
fn an_idle_server_sleeps_once_its_time_without_sleep_is_over() {
    let much = WATCHED / 10;
    let used = cpu_after_an_echo(Duration::from_micros(50), WATCHED, much);
    assert!(used < much, "{used:?} of CPU time within {WATCHED:?} without an event");
    // The same measure sees it when a worker does not sleep. Others may have the cores meanwhile.
    let used = cpu_after_an_echo(DEADLINE, DEADLINE, much);
    assert!(used >= much, "only {used:?} of CPU time in {DEADLINE:?} without sleep");
}
