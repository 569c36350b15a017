//! What clients get, and what parent and child have.

use std::collections::BTreeSet;

use crate::children::{Parent, Process, exits_well};
use trust_testkit::event;
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, pattern};
use trust_testkit::program::Home;
use trust_testkit::server::Server;

#[test]
fn every_mode_is_echoed_by_a_child() {
    let large = pattern(65_536);
    let cases = [("framed", true, "framed"), ("raw", false, "raw")];
    let of_auto = [("auto", true, "framed"), ("auto", false, "raw")];
    for (mode, is_framed, seen_as) in cases.into_iter().chain(of_auto) {
        let server = Parent::start(&["--mode", mode]);
        let mut peer = server.peer();
        let address = peer.address();
        for payload in [b"first".as_slice(), &large, b""] {
            // Raw bytes must not begin like a frame.
            let payload = if is_framed { payload } else { &payload[payload.len().min(1)..] };
            if is_framed {
                peer.send_frame(payload);
                peer.receives_frame(payload);
            } else {
                peer.send(payload);
                peer.receives(payload);
            }
        }
        peer.half_close();
        peer.receives_end();
        let close = server.closes(address, "peer_fin");
        assert_eq!(close.text("mode"), seen_as, "{close:?}");
        let frames = if is_framed { 3 } else { 0 };
        assert_eq!(close.count("frames_in"), frames, "{close:?}");
        assert_eq!(close.count("bytes_in"), close.count("bytes_out"), "{close:?}");
        assert!(close.count("bytes_in") > 65_535, "{close:?}");
        assert!(close.number("duration_ms") > 0.0, "{close:?}");
        exits_well(&server, address);
        let events = server.stops_with(0);
        assert_eq!(event::only(&events, "server_start").text("model"), "process");
        let stop = event::only(&events, "server_stop");
        for key in ["bytes_in", "bytes_out", "frames_in", "frames_out"] {
            assert_eq!(stop.count(key), close.count(key), "{key} of {stop:?}");
        }
    }
}

#[test]
fn clients_are_served_at_once_each_by_a_process_of_its_own() {
    const CLIENTS: usize = 5;
    let server = Parent::start(&[]);
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| server.peer()).collect();
    // The first one is in the middle of a frame throughout.
    peers[0].send_frame(b"first");
    peers[0].receives_frame(b"first");
    peers[0].send(&[0, 0, 0, 9, b'b']);
    let mut children = BTreeSet::new();
    for (number, peer) in peers.iter_mut().enumerate().rev() {
        let child = server.child_of(peer.address());
        if number > 0 {
            peer.send_frame(&[number as u8; 100]);
            peer.receives_frame(&[number as u8; 100]);
        }
        let stat = child.stat().expect("it serves");
        assert_eq!((stat.parent, stat.group), (server.pid(), child.0), "a group of its own");
        let conn = server.event_about(peer.address(), "client_connect").count("conn");
        let words =
            ["trustctl", "serve-connection", &conn.to_string(), &peer.address().to_string()];
        assert_eq!(child.words("cmdline"), words, "what ps shows");
        assert_eq!(child.words("comm"), ["trustctl\n"]);
        children.insert(child);
    }
    assert_eq!(children.len(), CLIENTS);
    peers[0].send(b"egin it!");
    peers[0].receives_frame(b"begin it!");
    drop(peers);
    let events = server.stops_with(0);
    for close in event::named(&events, "client_close") {
        assert!(["peer_fin", "drain"].contains(&close.text("reason")), "{close:?}");
    }
}

#[test]
fn lines_longer_than_a_pipe_takes_at_once_are_not_mixed_on_stdout() {
    const CLIENTS: usize = 24;
    // Each of its characters takes six in a line.
    let identity = "\u{1}".repeat(1000);
    // No client is timed out while the children of the others start.
    let flags = ["--timeout", "60", "--log-level", "debug", "--request-id", &identity];
    let server = Parent::start(&flags);
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| server.peer()).collect();
    for round in 0..4 {
        peers.iter_mut().for_each(|peer| peer.send_frame(&[round; 10]));
        peers.iter_mut().for_each(|peer| peer.receives_frame(&[round; 10]));
    }
    drop(peers);
    server.has_no_children();
    // Every line is parsed strictly.
    let events = server.stops_with(0);
    assert_eq!(event::named(&events, "frame_recv").len(), 4 * CLIENTS);
}

#[test]
fn parent_and_child_hold_only_the_descriptors_that_they_need() {
    /// Three signals that end it, one for statistics, and the server's end: one pipe each, with
    /// both ends here.
    const PIPES: usize = 5;
    let server = Parent::start(&[]);
    let process = Process(server.pid());
    let before = process.descriptors();
    let mut peers = [server.peer(), server.peer()];
    let children = peers.each_mut().map(|peer| {
        peer.send_frame(b"here");
        peer.receives_frame(b"here");
        server.child_of(peer.address())
    });
    let while_serving = process.descriptors();
    let new: Vec<_> = while_serving.iter().filter(|(fd, _)| !before.contains_key(fd)).collect();
    assert_eq!(new.len(), 2, "one channel a child: {new:?}");
    assert!(new.iter().all(|(_, what)| what.starts_with("socket:")), "{new:?}");

    let mut seen = BTreeSet::new();
    for child in children {
        let descriptors = child.descriptors();
        let count = |prefix: &str| descriptors.values().filter(|it| it.starts_with(prefix)).count();
        assert!(descriptors[&0].starts_with("socket:"), "the channel: {descriptors:?}");
        assert_eq!(count("socket:"), 2, "the channel and the connection: {descriptors:?}");
        assert_eq!(
            count("pipe:"),
            3 + 2 * PIPES,
            "stdout and its lock, stderr, signals: {descriptors:?}"
        );
        let logs = descriptors.values().filter(|it| it.ends_with("/trustctl.log")).count();
        assert_eq!(logs, 2, "one that writes, one that reads the last byte: {descriptors:?}");
        for kind in ["anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]"] {
            assert_eq!(count(kind), 1, "{kind}: {descriptors:?}");
        }
        let known = 2 + 3 + 2 * PIPES + 2 + 3;
        assert_eq!(descriptors.len(), known, "nothing else: {descriptors:?}");
        for socket in descriptors.values().filter(|it| it.starts_with("socket:")) {
            assert!(seen.insert(socket.clone()), "a socket in two children");
            let in_parent = while_serving.values().any(|it| it == socket);
            assert!(!in_parent, "a socket of a child in its parent");
        }
    }
    let addresses = peers.each_ref().map(Peer::address);
    drop(peers);
    addresses.iter().for_each(|address| exits_well(&server, *address));
    assert_eq!(process.descriptors(), before);
    server.stops_with(0);
}

#[test]
fn children_have_as_many_threads_as_the_default_number_of_clients_counts_on() {
    let server = Parent::start(&[]);
    let mut peer = server.peer();
    peer.send_frame(b"here");
    peer.receives_frame(b"here");
    let child = server.child_of(peer.address());
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.0)).expect("it runs").count();
    assert_eq!(tasks, 4);
    peer.leave();
    server.stops_with(0);
}

#[test]
fn what_a_super_server_says_to_the_server_does_not_reach_its_children() {
    let names = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    let others = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
    let home = Home::new();
    let mut launch = home.trustctl(["echo-server", "--port", "0", "--model", "process"]);
    // These are meant for another process, so the server itself ignores them.
    for name in names.into_iter().chain(others) {
        launch = launch.env(name, if name == "NOTIFY_SOCKET" { "" } else { "1" });
    }
    let launch = launch.env("STAYS", "1");
    let server = Parent::over(Server::start_as(Model::Process, home, launch));
    let mut peer = server.peer();
    // Until it has answered, it may not have its variables yet.
    peer.send_frame(b"here");
    peer.receives_frame(b"here");
    let variables = server.child_of(peer.address()).words("environ");
    assert!(variables.iter().any(|variable| variable == "STAYS=1"), "{variables:?}");
    for name in names.into_iter().chain(others) {
        let is_it = |variable: &String| variable.starts_with(&format!("{name}="));
        assert!(!variables.iter().any(is_it), "{name} in {variables:?}");
    }
    peer.leave();
    server.stops_with(0);
}

#[test]
fn the_word_for_children_is_no_command() {
    let home = Home::new();
    for words in [&["serve-connection"][..], &["serve-connection", "1", "127.0.0.1:4711"]] {
        let refused = home.trustctl(words).run().exits_with(64).complains_in_one_line();
        refused.complains_about(&["serve-connection", "by hand"]).prints("");
    }
    let help = home.trustctl(["--help"]).run().exits_with(0);
    assert!(!help.text().contains("serve-connection"), "{}", help.text());
    assert!(home.is_untouched());
}
