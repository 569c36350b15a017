//! Unix sockets whose accept queue is full, which connect(2) reports as EAGAIN.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};

use trust_net::UnixName;

use super::*;

/// A listening socket that has room for one client who waits, and its address.
fn listener(name: &str) -> (UnixListener, Address) {
    let name = format!("trust-load-{name}-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("it is free");
    rustix::net::listen(&listener, 0).expect("it listens already");
    (listener, Address::Unix(UnixName::Abstract(name.into_bytes())))
}

fn echo_all(mut stream: UnixStream) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn clients_that_find_the_accept_queue_full_wait_for_their_turn() {
    let (listener, address) = listener("short-queue");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| echo_all(stream));
        }
    });
    let shape = Shape { places: places(100), length: messages(200, 5), ..shape(address) };
    let summary = summary(&shape);
    assert_eq!((summary.counts.connections, summary.counts.answered), (200, 1000));
    assert_eq!(seen(&summary), []);
}

#[test]
fn a_queue_that_stays_full_is_a_timeout_of_connecting() {
    let (listener, address) = listener("full-queue");
    let first = first(&address);
    let (stream, _) = listener.accept().expect("the first client");
    thread::spawn(|| echo_all(stream));
    let waiting = ClientStream::begin_connecting(&address, |_| ()).expect("the queue has room");
    let timeout = Some(Duration::from_millis(100));
    let shape = Shape { places: places(3), length: messages(3, 5), timeout, ..shape(address) };
    let ended = run(&shape, first, &Signals::never(), &mut Kept::default()).expect("descriptors");
    let summary = ended.summary;
    assert_eq!((summary.counts.connections, summary.counts.answered), (1, 5));
    assert_eq!(seen(&summary), [(Cause::ConnectTimeout, 2)]);
    drop((waiting, listener));
}
