//! Servers on unix sockets.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use super::command::RUN_DEADLINE;
use super::document::Document;
use trust_testkit::program::{Home, Launch};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    every_report_names_the_unix_socket,
    crowds_wait_for_their_turn_in_a_short_accept_queue,
    new_connections_all_the_while_find_their_turn_too,
    a_queue_that_stays_full_is_an_error_of_connecting,
    a_server_that_leaves_a_unix_socket_is_refused_and_not_an_odd_error,
    a_wrong_byte_is_found_over_a_unix_socket,
];

/// A listening socket in the home's neighbourhood with room for so many who wait, and one more.
fn listener(home: &Home, backlog: i32) -> (UnixListener, String) {
    let path = home.elsewhere("x.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    rustix::net::listen(&listener, backlog).expect("it listens already");
    (listener, format!("unix:{}", path.display()))
}

/// Sends back what comes, each client in a thread, changed by `change`.
fn serve(listener: UnixListener, change: fn(&mut [u8])) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream, change));
        }
    });
}

fn echo(mut stream: UnixStream, change: fn(&mut [u8])) {
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        change(&mut buffer[..count]);
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn load(home: &Home, target: &str, flags: &str) -> Launch {
    home.trustctl(["load", target]).args(flags.split_whitespace())
}

#[track_caller]
fn document(home: &Home, target: &str, flags: &str, exit: i32) -> Document {
    let launch = load(home, target, flags).args(["--json"]);
    Document::read(&launch.start().wait_for(RUN_DEADLINE).exits_with(exit))
}

fn every_report_names_the_unix_socket() {
    let home = Home::new();
    let (listener, target) = listener(&home, 128);
    serve(listener, |_| ());
    let [log, page] = ["a.hlog", "a.html"].map(|name| home.elsewhere(name));
    let sequential = load(&home, &target, "--clients=3").run().exits_with(0);
    let line = format!("address: {target}");
    assert!(sequential.text().lines().any(|it| it == line), "{}", sequential.text());
    let flags = "--concurrency=2 --messages=3";
    let launch = load(&home, &target, flags).args(["--hdr-log"]).args([&log]);
    let text = launch.args(["--html"]).args([&page]).run().exits_with(0);
    let is_row = |it: &str| it.split_whitespace().eq(["address", &target]);
    assert!(text.text().lines().any(is_row), "{}", text.text());
    assert!(text.text().contains("trustctl load unix:"), "{}", text.text());
    let read = |path: &Path| std::fs::read_to_string(path).expect("a report");
    assert!(read(&page).contains(&format!("<dt>address</dt><dd>{target}</dd>")));
    let csv = load(&home, &target, flags).args(["--csv"]).run().exits_with(0);
    assert!(csv.text().lines().nth(1).expect("a row").ends_with(&format!(",{target}")));
    let seen = document(&home, &target, flags, 0);
    assert_eq!((&seen.target, &seen.addresses[..]), (&target, std::slice::from_ref(&target)));
    let key = format!("\"addresses\":[\"{target}\"]");
    assert!(read(&log).contains(&key), "{}", read(&log));
    let merged = home.trustctl(["load", "merge", "--json"]).args([&log]).run().exits_with(0);
    let compact: String = merged.text().split_whitespace().collect();
    assert!(compact.contains(&key), "{compact}");
}

fn crowds_wait_for_their_turn_in_a_short_accept_queue() {
    let home = Home::new();
    let (listener, target) = listener(&home, 1);
    serve(listener, |_| ());
    let flags = "--concurrency=300 --clients=600 --messages=2";
    let seen = document(&home, &target, flags, 0);
    seen.is_all_right(1200);
    assert_eq!((seen.connections.made, seen.connections.syn_repeated), (600, 0));
}

fn new_connections_all_the_while_find_their_turn_too() {
    let home = Home::new();
    let (listener, target) = listener(&home, 1);
    serve(listener, |_| ());
    let flags = "--concurrency=20 --rate=2000 --duration=1 --messages-per-connection=3";
    let seen = document(&home, &target, flags, 0);
    assert_eq!(seen.causes(), []);
    assert!(seen.connections.made >= 100, "{seen:?}");
}

fn a_queue_that_stays_full_is_an_error_of_connecting() {
    let home = Home::new();
    let (listener, target) = listener(&home, 0);
    // The first client of the load is served, and no other.
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        echo(stream, |_| ());
        listener
    });
    let flags = "--concurrency=3 --messages=2 --timeout=0.5";
    let seen = document(&home, &target, flags, 1);
    // One of them had room in the queue, was never accepted, and got no answer.
    let causes = seen.causes();
    assert_eq!(causes, [("connect_timeout", 1), ("timeout", 1)], "{seen:?}");
    assert_eq!((seen.connections.made, seen.messages.answered), (2, 2));
    drop(serving.join());
}

fn a_server_that_leaves_a_unix_socket_is_refused_and_not_an_odd_error() {
    let home = Home::new();
    let (listener, target) = listener(&home, 128);
    let path = home.elsewhere("x.sock");
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        std::fs::remove_file(path).expect("it is there");
        drop(listener);
        echo(stream, |_| ());
    });
    let flags = "--concurrency=1 --clients=4 --messages=2";
    let seen = document(&home, &target, flags, 1);
    assert_eq!(seen.causes(), [("refused", 3)], "{seen:?}");
    serving.join().expect("it has served");
}

fn a_wrong_byte_is_found_over_a_unix_socket() {
    let home = Home::new();
    let (listener, target) = listener(&home, 128);
    serve(listener, |bytes| bytes[20] ^= 1);
    let seen = document(&home, &target, "--concurrency=2 --messages=2", 1);
    assert_eq!(seen.causes(), [("mismatch", 2)], "{seen:?}");
    assert!(seen.wrong.iter().all(|wrong| wrong.offset == 20), "{seen:?}");
}
