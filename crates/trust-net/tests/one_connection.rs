//! A server of one connection that was accepted elsewhere, as a super-server or a parent process
//! hands it over.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;
use socket2::SockRef;
use support::{DEADLINE, Diary, config, frame, read_exactly, read_to_end};
use trust_net::observer::ClientInfo;
use trust_net::service::Echo;
use trust_net::wire::Limits;
use trust_net::{Handle, Model, Observer, Server, ServerConfig, Summary};

struct Served {
    peer: TcpStream,
    /// The same socket as the server's, as the shell that started it would keep it.
    kept: TcpStream,
    handle: Handle,
    diary: Arc<Diary>,
    server: JoinHandle<Summary>,
}

fn serve_one() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = TcpStream::connect(listener.local_addr().expect("it has one")).expect("a backlog");
    peer.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
    let (stream, address) = listener.accept().expect("it is connected");
    let kept = stream.try_clone().expect("a descriptor");
    let diary = Arc::new(Diary::default());
    let observer = Arc::clone(&diary) as Arc<dyn Observer>;
    let info = ClientInfo::new(7, 0, address.into());
    let limits = Limits { linger_timeout: Duration::from_millis(50), ..Limits::default() };
    let config = ServerConfig { limits, ..config(Model::Event) };
    let server = Server::of_connection(config, Echo, observer, stream.into(), info)
        .expect("descriptors for an event loop");
    let handle = server.handle();
    let server = thread::spawn(move || server.run().expect("the event loop works"));
    Served { peer, kept, handle, diary, server }
}

#[test]
fn a_server_of_one_connection_ends_with_it_and_speaks_of_no_drain() {
    let Served { mut peer, kept, diary, server, .. } = serve_one();
    peer.write_all(&frame(b"once")).expect("it is read");
    assert_eq!(read_exactly(&mut peer, 8), frame(b"once"));
    peer.shutdown(Shutdown::Write).expect("it is open");
    let summary = server.join().expect("no panic");
    assert_eq!((summary.connections, summary.totals.frames_out), (1, 1));
    assert_eq!(*diary.entries(), ["connected 7", "closed 7 PeerFin"]);
    // The end comes although somebody has kept the socket.
    assert_eq!(read_to_end(&mut peer), b"");
    drop(kept);
}

#[test]
fn urgent_data_of_the_one_connection_stay_in_the_stream() {
    let Served { mut peer, server, .. } = serve_one();
    peer.write_all(b"abc").expect("it is open");
    SockRef::from(&peer).send_out_of_band(b"!").expect("it is open");
    peer.write_all(b"def").expect("it is open");
    assert_eq!(read_exactly(&mut peer, 7), b"abc!def");
    peer.shutdown(Shutdown::Write).expect("it is open");
    server.join().expect("no panic");
}

#[test]
fn a_cut_reaches_the_peer_although_somebody_has_kept_the_socket() {
    let Served { mut peer, kept, handle, diary, server } = serve_one();
    peer.write_all(&frame(b"never whole")[..7]).expect("it is read");
    diary.wait_for("connected 7");
    handle.cut();
    let error = peer.read_to_end(&mut Vec::new()).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    server.join().expect("no panic");
    assert_eq!(diary.reasons(), ["SecondSignal"]);
    drop(kept);
}

#[test]
fn the_socket_stays_blocking_for_others_who_have_it() {
    let Served { mut peer, kept, handle, diary, server } = serve_one();
    // More than the kernel takes at once, so that a send would wait if it could.
    let large: Vec<u8> = (0..100).flat_map(|_| frame(&[1; 60_000])).collect();
    let mut sending = peer.try_clone().expect("a descriptor");
    let sent = large.clone();
    let sender = thread::spawn(move || sending.write_all(&sent));
    assert!(read_exactly(&mut peer, large.len()) == large);
    sender.join().expect("no panic").expect("all of it is read");
    let flags = rustix::fs::fcntl_getfl(&kept).expect("flags can be read");
    assert!(!flags.contains(OFlags::NONBLOCK), "{flags:?}");
    handle.drain();
    assert_eq!(read_to_end(&mut peer), b"");
    // The peer goes on without a FIN, and a receive that waited for it would never end.
    diary.wait_for("closed 7 Drain");
    let summary = server.join().expect("no panic");
    assert_eq!((summary.drained, summary.cut), (1, 0));
    assert_eq!(*diary.entries(), ["connected 7", "drain of 1", "closed 7 Drain"]);
}
