//! Ports that are already taken.

use std::net::{SocketAddr, TcpListener};
use std::process;

use socket2::{Domain, Socket, Type};

use trust_testkit::model::Model;
use trust_testkit::peer::Peer;
use trust_testkit::program::Home;
use trust_testkit::server::Server;

use crate::leave_out;

/// Checks what a server says that cannot have the port of this address; returns the text after the
/// error.
fn is_refused(address: SocketAddr) -> String {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let flags = ["--log-file=none", "--host", &ip, "--port", &port];
    let finished = Home::new().trustctl(["echo-server"]).args(flags).run().exits_with(69);
    let error = format!("error: cannot listen on '{ip}' port {port}: Address already in use: ");
    let finished = finished.complains_about(&[&error]).complains_in_one_line();
    finished.stderr.trim_end().strip_prefix(&error).expect("it begins so").to_owned()
}

#[test]
fn a_name_is_listened_on_at_all_its_addresses_and_one_port() {
    if !rustix::process::geteuid().is_root() {
        return leave_out("root, for a file of hosts of its own");
    }
    // More than any name server would return, and one of them twice.
    let hosts = "127.0.0.1 several\n127.0.0.2 several\n127.0.0.1 several\n::1 several\n\
                 127.0.0.1 foreign\n192.0.2.1 foreign\n";
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let own_hosts = |home: &Home, args: &[&str]| {
        let path = home.elsewhere("hosts");
        std::fs::write(&path, hosts).expect("write a file");
        let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", path.display());
        home.trustctl_under(&["unshare", "--mount", "sh", "-c", &script, "sh"], args)
    };
    for model in [Model::Event, Model::Iterative, Model::Process] {
        let home = Home::new();
        let flags = ["echo-server", "--host=several", "--port=0", "--model", model.name()];
        let launch = own_hosts(&home, &flags);
        let server = Server::start_as(model, home, launch);
        let start = server.start_event();
        let port = server.port();
        let listed: Vec<SocketAddr> =
            start.texts("addresses").iter().map(|text| text.parse().expect("an address")).collect();
        assert_eq!((start.text("addr"), port), (&*listed[0].ip().to_string(), listed[0].port()));
        let hosts = &["127.0.0.1", "127.0.0.2", "::1"][..if has_ipv6 { 3 } else { 2 }];
        assert_eq!(listed.len(), hosts.len(), "{listed:?}");
        for host in hosts {
            let address = SocketAddr::new(host.parse().expect("an address"), port);
            assert!(listed.contains(&address), "{address} of {listed:?}");
            let mut peer = Peer::connect(address);
            peer.send_frame(b"hello");
            peer.receives_frame(b"hello");
            peer.leave();
        }
        server.stop();
    }
    let home = Home::new();
    let flags = ["echo-server", "--host=foreign", "--port=0", "--log-file=none"];
    let finished = own_hosts(&home, &flags).run().exits_with(69).complains_in_one_line();
    let words =
        ["cannot listen on 'foreign' port ", " (192.0.2.1): Cannot assign requested address"];
    finished.complains_about(&words);
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

    // An outgoing connection that has the port, in the range that the kernel assigns to programs.
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
