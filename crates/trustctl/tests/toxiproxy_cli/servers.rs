//! How it finds the server, and what it says if there is none.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::program::{Home, Running};

use crate::{Api, toxiproxy_cli};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A command that has connected to a server, the server's address, and its end of the connection.
fn connected(home: &Home) -> (Running, SocketAddr, TcpStream) {
    let listener = TcpListener::bind(LOOPBACK).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let running = toxiproxy_cli(home, &format!("-h {address} list")).start();
    let limit = Timespec::try_from(STEP_DEADLINE).expect("it is short");
    let came = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&limit));
    assert_eq!(came, Ok(1), "no client came");
    let (client, _) = listener.accept().expect("a client");
    client.set_read_timeout(Some(STEP_DEADLINE)).expect("it is not zero");
    (running, address, client)
}

#[test]
fn the_server_is_named_in_several_ways() {
    let api = Api::with_proxy();
    let port = api.port();
    let expected = "redis\t127.0.0.1:7001\tu:1\tenabled\t1\n";
    let urls = ["localhost", "127.0.0.1", "[::1]", "http://localhost", "http://[::1]", ""];
    for url in urls.map(|host| format!("{host}:{port}")) {
        for line in [format!("-h {url} list"), format!("--host={url} list")] {
            let listed = toxiproxy_cli(&api.home, &line).run().exits_with(0);
            listed.complains_about_nothing().prints(expected);
        }
        let listed = toxiproxy_cli(&api.home, "list").env("TOXIPROXY_URL", &url).run();
        listed.exits_with(0).complains_about_nothing().prints(expected);
    }
    let flag_wins = toxiproxy_cli(&api.home, &format!("-h localhost:{port} list"));
    flag_wins.env("TOXIPROXY_URL", "127.0.0.1:1").run().exits_with(0).prints(expected);
}

#[test]
fn a_server_at_any_address_of_the_name_is_found() {
    let addresses: Vec<_> = ("localhost", 0).to_socket_addrs().expect("it is known").collect();
    assert!(!addresses.is_empty());
    for address in addresses {
        let api = Api::at(&[address]);
        api.does("create -l :7001 -u u:1 redis");
        api.does("list").prints("redis\t[::]:7001\tu:1\tenabled\t0\n");
    }
}

#[test]
fn without_a_server_there_is_one_line() {
    let closed =
        TcpListener::bind(LOOPBACK).expect("a free port").local_addr().expect("an address");
    let url = format!("localhost:{}", closed.port());
    for command in ["list", "delete a", "create -l :1 -u u:1 a"] {
        let home = Home::new();
        let refused = toxiproxy_cli(&home, &format!("-h {url} {command}")).run().exits_with(1);
        let refused = refused.complains_in_one_line().prints("");
        refused.complains_about(&[
            &format!("error: cannot connect to {url}"),
            "127.0.0.1",
            "Connection refused",
            "hint: start the server, or name another one with --host or TOXIPROXY_URL",
        ]);
    }
}

#[test]
fn a_server_that_cannot_be_named_so_is_refused_in_one_line() {
    let home = Home::new();
    let expected = "expected HOST:PORT or http://HOST:PORT";
    for url in ["localhost:70000", "ftp://localhost", "unix:/run/x"] {
        let refused = toxiproxy_cli(&home, &format!("-h {url} list")).run().exits_with(1);
        let message = format!("error: invalid value '{url}' for --host: {expected}");
        refused.complains_in_one_line().complains_about(&[&message]);
        let refused = toxiproxy_cli(&home, "list").env("TOXIPROXY_URL", url).run().exits_with(1);
        let message = format!("error: invalid value '{url}' for TOXIPROXY_URL: {expected}");
        refused.complains_in_one_line().complains_about(&[&message]);
    }
    let unknown = toxiproxy_cli(&home, "-h no-such-host.invalid:1 list").run().exits_with(1);
    unknown.complains_in_one_line().complains_about(&["no-such-host.invalid"]);
}

#[test]
fn a_server_that_speaks_something_else_is_named_in_one_line() {
    let home = Home::new();
    let (running, address, mut client) = connected(&home);
    client.write_all(b"220 mail.example ESMTP\r\n").expect("it is read");
    let failed = running.wait().exits_with(1).complains_in_one_line();
    let complaint = format!("error: cannot list proxies: no valid answer from {address}: ");
    failed.complains_about(&[&complaint]);
}

#[test]
fn a_signal_ends_the_wait_for_an_answer() {
    let home = Home::new();
    let (running, _, client) = connected(&home);
    let mut line = String::new();
    let mut reader = BufReader::new(client);
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "GET /proxies HTTP/1.1\r\n");
    running.signal(Signal::INT);
    running.wait().exits_with(130).complains_about_nothing().prints("");
}
