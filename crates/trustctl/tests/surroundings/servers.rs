//! How the client commands are told which server to use.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use trust_testkit::net::{Network, with_addresses};
use trust_testkit::program::{Finished, Home};
use trust_testkit::server::{NO_FLAGS, Server};

/// A run of each client command that is over soon, without its server.
pub(crate) const COMMANDS: [&[&str]; 3] =
    [&["echo-client"], &["load", "--messages=1"], &["check", "--case=framing/1"]];

/// Runs each client command with these words for the server.
pub(crate) fn each(home: &Home, server: &[&str], check: impl Fn(&str, Finished)) {
    for command in COMMANDS {
        check(command[0], home.trustctl(command).args(server).run());
    }
}

#[test]
fn every_client_command_takes_a_server_in_every_form() {
    let server = Server::start(NO_FLAGS);
    let port = &*server.port().to_string();
    let (whole, colon) = (&*format!("localhost:{port}"), &*format!(":{port}"));
    let forms: [&[&str]; 9] = [
        &[whole],
        &["localhost", port],
        &[&format!("127.0.0.1:{port}")],
        &[colon],
        &[port],
        &["--host=localhost", "--port", port],
        &["--port", port],
        &["--host", whole],
        &["--host", colon],
    ];
    let home = Home::new();
    for form in forms {
        each(&home, form, |_, finished| drop(finished.exits_with(0)));
        home.trustctl(["echo-client"]).args(form).args(["hi"]).run().exits_with(0).prints("hi\n");
    }
}

#[test]
fn every_client_command_takes_the_brackets_off_an_ipv6_address() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
        return super::leave_out("IPv6");
    };
    let port = &*listener.local_addr().expect("an address").port().to_string();
    drop(listener);
    let home = Home::new();
    let refused = format!("cannot connect to [::1]:{port}: Connection refused");
    let forms: [&[&str]; 5] = [
        &[&format!("[::1]:{port}")],
        &["[::1]", port],
        &["::1", port],
        &["--host=[::1]", "--port", port],
        &["--host", &format!("[::1]:{port}")],
    ];
    for form in forms {
        each(&home, form, |_, finished| drop(finished.exits_with(69).complains_about(&[&refused])));
    }
}

#[test]
fn every_client_command_says_the_same_about_a_server_that_is_none() {
    let home = Home::new();
    let forms = "HOST:PORT, HOST PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH or unix:@NAME";
    let cases: [(&[&str], String); 8] = [
        (&["localhost"], format!("server 'localhost' has no port: expected {forms}")),
        (&["a:b:c"], format!("invalid server 'a:b:c': expected {forms}")),
        (&["--host=a:b:c"], format!("invalid value 'a:b:c' for --host: expected {forms}")),
        (
            &[":0"],
            "invalid server ':0': invalid port '0': expected a port from 1 to 65535".to_owned(),
        ),
        (&["--port=0"], "invalid value '0' for --port: ".to_owned()),
        (&["--host=h"], "--host 'h' has no port: add it as HOST:PORT or with --port".to_owned()),
        (&["--port=1", "h:2"], "--port cannot be used with 'h:2': name the server once".to_owned()),
        (&["--port=1", "--host=h:2"], "--host 'h:2' has a port already: it cannot be".to_owned()),
    ];
    for (server, words) in cases {
        each(&home, server, |_, finished| {
            let refused = finished.exits_with(64).prints("").complains_in_one_line();
            refused.complains_about(&[&format!("error: {words}")]);
        });
    }
    each(&home, &[], |_, finished| {
        let refused = finished.exits_with(64).complains_in_one_line();
        refused.complains_about(&[&format!("missing server: expected {forms}, or --")]);
    });
}

#[test]
fn an_argument_beats_a_variable_and_the_file() {
    let server = Server::start(NO_FLAGS);
    let whole = format!("127.0.0.1:{}", server.port());
    let home = Home::new();
    home.configure("[echo-client]\nport = 1\n[load]\nhost = \"unknown.invalid:1\"\n");
    for command in COMMANDS {
        let launch = home.trustctl(command).args([&whole]);
        launch.env("TRUST_CHECK_PORT", "1").run().exits_with(0);
    }
    let launch = home.trustctl(["echo-client", "hi", "--host", &whole]);
    launch.run().exits_with(0).prints("hi\n");
}

#[test]
fn a_link_local_address_is_reached_and_shown_with_its_interface() {
    if !rustix::process::geteuid().is_root() {
        return super::leave_out("root, for a network namespace");
    }
    let network = Network::create();
    network
        .ip("link add local0 type veth peer name local1\nlink set local1 up\nlink set local0 up\n\
         addr add fe80::1/64 dev local0 nodad\n");
    network.inside(|| {
        let server = Server::start(["--host=fe80::1%local0"]);
        let start = server.start_event();
        assert_eq!(start.text("addr"), "fe80::1%local0");
        let whole = format!("[fe80::1%local0]:{}", server.port());
        let home = Home::new();
        each(&home, &[&whole], |_, finished| drop(finished.exits_with(0)));
        drop(server);
        let refused = format!("cannot connect to {whole}: Connection refused");
        each(&home, &[&whole], |_, finished| {
            drop(finished.exits_with(69).complains_about(&[&refused]))
        });
    });
}

#[test]
fn a_link_local_address_needs_an_interface_that_is_there() {
    let home = Home::new();
    let needs = "a link-local address needs its interface, as in fe80::1%eth0";
    let unknown = "unknown interface 'nosuch' in 'fe80::1%nosuch': this host has ";
    let refused = |finished: Finished, words: &str| {
        drop(finished.exits_with(64).complains_about(&[words]).complains_in_one_line());
    };
    for (host, words) in [("fe80::1", needs), ("fe80::1%nosuch", unknown)] {
        let forms: [&[&str]; 3] =
            [&[host, "9"], &[&format!("[{host}]:9")], &["--port=9", "--host", host]];
        for form in forms {
            each(&home, form, |_, finished| refused(finished, words));
        }
        let server = home.trustctl(["echo-server", "--port=0", "--host", host]);
        refused(server.run(), words);
    }
}

#[test]
fn a_server_that_is_not_there_yet_is_waited_for() {
    let home = Home::new();
    for command in COMMANDS {
        // It refuses connections until it listens, and no one else gets its port.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = socket.local_addr().expect("an address").as_socket().expect("an address");
        let address = address.to_string();
        let client = home.trustctl(command).args([&*address, "--wait=1h"]);
        let framing = if command[0] == "check" { Some("--framing=raw") } else { None };
        let client = client.args(framing).start();
        let line = format!("cannot connect to {address}: Connection refused; waiting up to 3600 s");
        client.wait_for_complaint(&line);
        socket.listen(128).expect("it listens");
        // It serves until the test process ends.
        thread::spawn(move || serve(&TcpListener::from(socket)));
        let finished = client.wait().exits_with(0);
        assert_eq!(finished.stderr.matches("waiting").count(), 1, "{}", finished.stderr);
    }
}

/// Echoes everything.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a client");
        thread::spawn(move || {
            let mut answers = stream.try_clone().expect("a descriptor");
            // A client that resets its connection has got what it wanted.
            drop(io::copy(&mut stream, &mut answers));
        });
    }
}

#[test]
fn a_signal_ends_the_wait_and_the_wait_ends_with_the_last_reason() {
    let home = Home::new();
    // Longer than a DNS label may be, so that no name server is asked.
    let unknown = &*format!("{}:1", "x".repeat(64));
    for command in COMMANDS {
        let client = home.trustctl(command).args([unknown, "--wait=1h"]).start();
        client.wait_for_complaint("waiting up to 3600 s");
        client.signal(Signal::TERM);
        client.wait().exits_with(143);
    }
    each(&home, &[unknown, "--wait=0.1"], |_, finished| {
        let words = ["cannot resolve host 'xxx", ", after 0.1 s of waiting"];
        finished.exits_with(68).complains_about(&words);
    });
}

#[test]
fn a_silent_address_holds_no_command_up_for_long() {
    if !rustix::process::geteuid().is_root() {
        return super::leave_out("root, for a mount namespace");
    }
    with_addresses("several.test", &["127.0.0.2", "127.0.0.3"], || {
        let addresses = ("several.test", 0).to_socket_addrs().expect("two addresses");
        let [first, last] = addresses.collect::<Vec<_>>()[..] else { panic!("not two addresses") };
        let server = Server::start(["--host", &last.ip().to_string()]);
        let _held = silent(SocketAddr::new(first.ip(), server.port()));
        let whole = format!("several.test:{}", server.port());
        let home = Home::new();
        // Without a limit, the silent address would be waited for as long as the kernel retries.
        each(&home, &[&whole], |_, finished| drop(finished.exits_with(0)));
        for command in COMMANDS {
            if command[0] != "check" {
                home.trustctl(command).args([&whole, "--timeout=0"]).run().exits_with(0);
            }
        }
    });
}

/// Sockets that fill the accept queue of this address, so that SYNs to it are dropped from then on.
fn silent(address: SocketAddr) -> Vec<Socket> {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&address.into()).expect("the port is free at this address");
    full.listen(0).expect("it listens");
    let mut held = vec![full];
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if client.connect_timeout(&address.into(), Duration::from_millis(50)).is_err() {
            return held;
        }
        held.push(client);
    }
}
