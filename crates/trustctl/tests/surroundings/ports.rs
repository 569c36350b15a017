//! Ports that somebody else has.

use std::net::{SocketAddr, TcpListener};
use std::process;

use socket2::{Domain, Socket, Type};

use trust_testkit::program::Home;

/// What a server says that is to have the port of this address, behind the error.
fn is_refused(address: SocketAddr) -> String {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let flags = ["--log-file=none", "--host", &ip, "--port", &port];
    let finished = Home::new().trustctl(["echo-server"]).args(flags).run().exits_with(69);
    let error = format!("error: cannot listen on '{ip}' port {port}: Address already in use: ");
    let finished = finished.complains_about(&[&error]).complains_in_one_line();
    finished.stderr.trim_end().strip_prefix(&error).expect("it begins so").to_owned()
}

#[test]
fn who_has_a_port_that_a_server_cannot_have_is_named() {
    let name = std::fs::read_to_string("/proc/self/comm").expect("a name");
    let own = format!("process {} ({})", process::id(), name.trim_end());
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(host).expect("a free port");
        let taken = listener.local_addr().expect("an address");
        assert_eq!(is_refused(taken), format!("{own} listens on {taken}"));
    }

    // An outgoing connection that has the port, in a range that programs may get one from.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let remote = listener.local_addr().expect("an address");
    let outgoing = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    outgoing.bind(&any.into()).expect("a free port");
    let taken = outgoing.local_addr().expect("an address").as_socket().expect("of the internet");
    let bound = "a socket has it that is bound and neither listens nor is connected";
    assert_eq!(is_refused(taken), bound);
    outgoing.connect(&remote.into()).expect("it listens");
    assert_eq!(is_refused(taken), format!("{own} has a connection from {taken} to {remote}"));
}
