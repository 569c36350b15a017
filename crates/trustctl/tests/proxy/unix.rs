//! A proxy between unix sockets and TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use trust_testkit::files::Files;
use trust_testkit::peer::Peer;

use crate::proxy::{Proxy, accept, upstream};

#[test]
fn a_unix_socket_is_relayed_to_with_half_close() {
    let files = Files::new();
    let path = files.path("server.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let proxy = Proxy::start(format!("unix:{path}"), &[]);
    let mut client = proxy.client();
    client.send(b"question");
    client.half_close();
    let (mut server, _) = listener.accept().expect("a client");
    let mut question = String::new();
    server.read_to_string(&mut question).expect("text");
    assert_eq!(question, "question");
    server.write_all(b"answer").expect("sends");
    drop(server);
    client.receives_to_end(b"answer");
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn a_unix_socket_is_listened_on_and_removed() {
    let files = Files::new();
    let path = files.path("proxy.sock");
    let listener = upstream();
    let address = listener.local_addr().expect("an address").to_string();
    let proxy = Proxy::of(&[&format!("unix:{path}"), &address]);
    let mut client = UnixStream::connect(&path).expect("it listens");
    client.write_all(b"question").expect("sends");
    client.shutdown(Shutdown::Write).expect("half-close");
    let mut server = accept(&listener);
    server.receives_to_end(b"question");
    server.send(b"answer");
    server.half_close();
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("text");
    assert_eq!(answer, "answer");
    proxy.event("proxy_close", |event| event.text("reason") == "fin");
    proxy.stop();
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn a_reset_goes_on_to_a_unix_socket_as_a_close() {
    let files = Files::new();
    let path = files.path("server.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let proxy = Proxy::start(format!("unix:{path}"), &[]);
    let mut client: Peer = proxy.client();
    client.send(b"question");
    let (mut server, _) = listener.accept().expect("a client");
    client.is_received();
    let peer = client.address();
    client.reset();
    let mut got = vec![];
    let outcome = server.read_to_end(&mut got);
    assert_eq!(got, b"question");
    assert!(outcome.is_ok_and(|count| count == 8), "a unix socket has no reset");
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "close"]);
    proxy.stop();
}

#[test]
fn a_unix_client_that_leaves_unread_bytes_resets_the_server() {
    let files = Files::new();
    let path = files.path("proxy.sock");
    let listener = upstream();
    let address = listener.local_addr().expect("an address").to_string();
    let proxy = Proxy::of(&[&format!("unix:{path}"), &address]);
    let client = UnixStream::connect(&path).expect("it listens");
    let mut server = accept(&listener);
    server.send(b"unread");
    let peeked = || rustix::net::recv(&client, &mut [0; 6][..], rustix::net::RecvFlags::PEEK);
    assert_eq!(peeked().map(|(count, _)| count), Ok(6));
    drop(client);
    let mut buffer = [0];
    let outcome = server.stream().read(&mut buffer);
    assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    proxy.event("proxy_close", |event| event.text("client_end") == "rst");
    proxy.stop();
}
