//! A server of listening sockets that others go on with.

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use socket2::SockRef;
use support::{DEADLINE, Diary, MODELS, config, frame, read_exactly, read_to_end};
use trust_net::service::Echo;
use trust_net::{Model, Observer, Server, ServerConfig};

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn connect(listener: &TcpListener) -> TcpStream {
    let peer = TcpStream::connect(listener.local_addr().expect("it has one")).expect("a backlog");
    peer.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
    peer
}

fn server(model: Model, listeners: &[TcpListener]) -> (Server<Echo>, Arc<Diary>) {
    let diary = Arc::new(Diary::default());
    let observer = Arc::clone(&diary) as Arc<dyn Observer>;
    let copies =
        listeners.iter().map(|listener| listener.try_clone().expect("a descriptor").into());
    let config = ServerConfig { workers: 2, ..config(model.clone()) };
    let server = Server::of_listeners(config, Echo, observer, copies.collect());
    (server.expect("descriptors for event loops"), diary)
}

#[test]
fn clients_come_from_every_socket() {
    let listeners = [(); 3].map(|()| listener());
    let (server, diary) = server(Model::Event, &listeners);
    assert_eq!(server.local_addr().ip(), listeners[0].local_addr().ok());
    let handle = server.handle();
    let server = thread::spawn(move || server.run().expect("the event loop works"));
    for _ in 0..3 {
        for listener in &listeners {
            let mut peer = connect(listener);
            peer.write_all(&frame(b"hello")).expect("it is read");
            assert_eq!(read_exactly(&mut peer, 9), frame(b"hello"));
            assert!(peer.nodelay().is_ok());
            peer.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(read_to_end(&mut peer), b"");
        }
    }
    handle.drain();
    assert_eq!(server.join().expect("no panic").connections, 9);
    assert_eq!(diary.reasons(), ["PeerFin"; 9]);
}

#[test]
fn who_came_before_the_server_is_served_like_those_who_come_later() {
    for model in MODELS {
        let listeners = [listener()];
        let mut waiting = connect(&listeners[0]);
        // Accepted sockets inherit this from one that had it when they came.
        SockRef::from(&waiting).send_out_of_band(b"!").expect("it is open");
        let (server, _) = server(model.clone(), &listeners);
        let handle = server.handle();
        let server = thread::spawn(move || server.run().expect("the event loop works"));
        assert_eq!(read_exactly(&mut waiting, 1), b"!", "{model:?}");
        drop(waiting);
        handle.drain();
        server.join().expect("no panic");
    }
}

#[test]
fn who_waits_when_the_server_is_told_to_stop_is_left_to_the_next_one() {
    for model in MODELS {
        let listeners = [listener()];
        let mut waiting = connect(&listeners[0]);
        waiting.write_all(&frame(b"who?")).expect("it is open");
        let (first, diary) = server(model.clone(), &listeners);
        first.handle().drain();
        let summary = first.run().expect("the event loop works");
        assert_eq!((summary.connections, summary.drained), (0, 0), "{model:?}");
        assert_eq!(*diary.entries(), ["drain of 0"], "{model:?}");

        let (second, diary) = server(model.clone(), &listeners);
        let handle = second.handle();
        let second = thread::spawn(move || second.run().expect("the event loop works"));
        assert_eq!(read_exactly(&mut waiting, 8), frame(b"who?"), "{model:?}");
        drop(waiting);
        diary.wait_for("closed 1 PeerFin");
        handle.drain();
        assert_eq!(second.join().expect("no panic").connections, 1, "{model:?}");
    }
}

#[test]
fn a_server_that_drains_does_not_accept_from_a_socket_that_others_have() {
    for model in MODELS {
        let listeners = [listener()];
        let (server, diary) = server(model.clone(), &listeners);
        let handle = server.handle();
        let server = thread::spawn(move || server.run().expect("the event loop works"));
        let mut slow = connect(&listeners[0]);
        let whole = frame(b"slow");
        slow.write_all(&whole[..5]).expect("it is open");
        diary.wait_for("connected 1");
        handle.drain();
        diary.wait_for("drain of 1");
        // Wakes no server, and waits for the next one to accept.
        let late = connect(&listeners[0]);
        // If the first byte had not come by then, it is not owed an answer.
        let _ = slow.write_all(&whole[5..]).and_then(|()| slow.shutdown(Shutdown::Write));
        let _ = read_to_end(&mut slow);
        assert_eq!(server.join().expect("no panic").connections, 1, "{model:?}");
        listeners[0].set_nonblocking(true).expect("it can be");
        let (_, peer) = listeners[0].accept().expect("the late one still waits");
        assert_eq!(Some(peer), late.local_addr().ok(), "{model:?}");
    }
}
