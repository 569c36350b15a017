//! Signals: to the server, to a child, from a terminal.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::children::{Parent, exits_well};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::followed::Followed;
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::program::Home;
use trust_testkit::server::Server;

/// Longer than any test waits.
const LONG: [&str; 6] = ["--timeout", "600", "--frame-timeout", "600", "--linger-timeout", "600"];

fn long(flags: &[&'static str]) -> Vec<&'static str> {
    [&LONG[..], flags].concat()
}

/// In the middle of a frame.
#[track_caller]
fn begins(server: &Server) -> Peer {
    let mut peer = server.peer();
    peer.send(&frame(b"unfinished")[..7]);
    peer.is_received();
    server.event_about(peer.address(), "child_start");
    peer
}

#[test]
fn a_drain_lets_children_finish_what_has_begun() {
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let server = Parent::start(&long(&["--drain-timeout", "600"]));
        let mut begun = begins(&server);
        let idle = server.peer();
        server.event_about(idle.address(), "child_start");
        server.signal(signal);
        let start = server.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
        assert_eq!(start.count("active"), 2, "{start:?}");
        drop(idle);
        begun.send(&frame(b"unfinished")[7..]);
        begun.receives_to_end(&frame(b"unfinished"));
        begun.leave();
        let events = server.ends_with(code);
        let done = event::only(&events, "drain_done");
        assert_eq!((done.count("drained"), done.count("cut")), (2, 0), "{done:?}");
        assert_eq!(event::named(&events, "drain_start").len(), 1, "children have none");
        let reasons: Vec<_> = event::named(&events, "client_close")
            .into_iter()
            .map(|close| close.text("reason").to_owned())
            .collect();
        assert!(reasons.contains(&"drain".to_owned()), "{reasons:?}");
    }
}

#[test]
fn who_waits_in_the_backlog_is_served_by_a_child_in_the_drain() {
    const NEWCOMERS: usize = 8;
    // Long, so that nothing but the drain ends them.
    let server = Parent::start(&long(&[]));
    server.pause();
    let mut newcomers: Vec<Peer> = (0..NEWCOMERS).map(|_| server.peer()).collect();
    for newcomer in &mut newcomers {
        newcomer.send_frame(b"just in time");
        newcomer.is_received();
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for mut newcomer in newcomers {
        newcomer.receives_to_end(&frame(b"just in time"));
        newcomer.leave();
    }
    let events = server.ends_with(0);
    let done = event::only(&events, "drain_done");
    assert_eq!(done.count("drained"), NEWCOMERS as u64, "{done:?}");
}

#[test]
fn children_cut_what_is_left_at_the_drain_deadline() {
    const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
    for (signal, code) in [(Signal::TERM, 1), (Signal::INT, 130)] {
        let server = Parent::start(&long(&["--drain-timeout", "0.5"]));
        let mut stuck = begins(&server);
        let began = Instant::now();
        server.signal(signal);
        stuck.is_reset();
        assert!(began.elapsed() >= DRAIN_TIMEOUT, "cut before its time");
        let timeout = server.event_about(stuck.address(), "drain_timeout");
        assert_eq!(timeout.number("drain_timeout_sec"), 0.5, "{timeout:?}");
        server.closes(stuck.address(), "drain_timeout");
        let events = server.ends_with(code);
        let done = event::only(&events, "drain_done");
        assert_eq!((done.count("drained"), done.count("cut")), (0, 1), "{done:?}");
    }
}

#[test]
fn a_second_signal_has_children_cut_at_once() {
    let pairs = [(Signal::TERM, Signal::TERM, 1), (Signal::INT, Signal::TERM, 130)];
    for (first, second, code) in pairs {
        let server = Parent::start(&long(&["--drain-timeout", "600"]));
        let mut stuck = [begins(&server), begins(&server)];
        server.signal(first);
        server.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
        server.signal(second);
        for peer in &mut stuck {
            peer.is_reset();
            server.closes(peer.address(), "second_signal");
            exits_well(&server, peer.address());
        }
        let events = server.ends_with(code);
        assert_eq!(event::only(&events, "drain_done").count("cut"), 2);
    }
}

#[test]
fn a_child_that_does_not_end_is_killed_in_the_end() {
    let server = Parent::start(&long(&["--drain-timeout", "0.1"]));
    let mut stuck = begins(&server);
    let child = server.child_of(stuck.address());
    child.signal(Signal::STOP);
    server.signal(Signal::TERM);
    stuck.is_gone();
    let exit = server.event_about(stuck.address(), "child_exit");
    assert_eq!(exit.text("signal"), "SIGKILL", "{exit:?}");
    server.closes(stuck.address(), "child_died");
    let events = server.ends_with(1);
    assert_eq!(event::only(&events, "drain_done").count("cut"), 1);
}

#[test]
fn control_c_on_a_terminal_reaches_the_parent_alone() {
    let terminal = Terminal::open();
    let home = Home::new();
    let flags = long(&["--drain-timeout", "600"]);
    let args = ["echo-server", "--port", "0", "--model", "process"].into_iter().chain(flags);
    // Makes the terminal on its standard input the session's controlling terminal.
    let launch = home.trustctl_under(&["setsid", "--ctty"], args).stdin(terminal.for_the_program());
    let server = Parent::over(Server::start_as(Model::Process, home, launch));
    let mut begun = begins(&server);
    let child = server.child_of(begun.address());

    terminal.types(b"\x03");
    let signal = server.wait_for_event("signal_received", |_| true, STEP_DEADLINE);
    assert_eq!((signal.text("signal"), signal.text("action")), ("SIGINT", "shutdown"));
    server.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
    // A child that had also got the signal would take the server's order for a second signal, and
    // cut off its client.
    begun.send(&frame(b"unfinished")[7..]);
    begun.receives_to_end(&frame(b"unfinished"));
    begun.leave();
    child.ends();
    let events = server.ends_with(130);
    event::only(&events, "signal_received");
    let done = event::only(&events, "drain_done");
    assert_eq!((done.count("drained"), done.count("cut")), (1, 0), "{done:?}");
}

#[test]
fn a_signal_to_a_child_ends_its_connection_and_no_other() {
    let server = Parent::start(&long(&[]));
    let [mut one, mut other] = [server.peer(), server.peer()];
    for peer in [&mut one, &mut other] {
        peer.send_frame(b"here");
        peer.receives_frame(b"here");
    }
    let child = server.child_of(one.address());
    child.signal(Signal::USR1);
    child.signal(Signal::TERM);
    one.receives_end();
    let address = one.address();
    one.leave();
    server.closes(address, "drain");
    exits_well(&server, address);
    other.send_frame(b"still here");
    other.receives_frame(b"still here");
    other.leave();
    let events = server.stops_with(0);
    assert_eq!(event::named(&events, "server_stats").len(), 0, "a child has none of its own");
    assert_eq!(event::named(&events, "drain_start").len(), 1);
}

#[test]
fn children_go_on_in_the_new_log_file_when_it_was_moved() {
    let server = Parent::start(&["--log-level", "debug"]);
    let mut peer = server.peer();
    peer.send_frame(&pattern(1));
    peer.receives_frame(&pattern(1));
    let conn = server.event_about(peer.address(), "client_connect").count("conn");
    let child = server.child_of(peer.address());
    let log = server.log_file();
    fs::rename(&log, log.with_extension("1")).expect("a log rotation");
    server.signal(Signal::HUP);
    let is_new = |target: &String| *target == log.to_string_lossy();
    let moved = || child.descriptors().values().filter(|target| is_new(target)).count() == 2;
    // The file takes effect with the next line written.
    kernel::wait_until("the child having the new file", || {
        peer.send_frame(&pattern(2));
        peer.receives_frame(&pattern(2));
        moved()
    });
    peer.send_frame(&pattern(3));
    peer.receives_frame(&pattern(3));
    peer.leave();
    let mut new = Followed::new(&log);
    let is_last = |event: &Event| event.count("conn") == conn && event.count("payload_len") == 3;
    new.wait_for("frame_recv", is_last);
    let events = server.stops_with_log_elsewhere();
    assert_eq!(event::named(&events, "log_reopen_failed").len(), 0);
}

/// A terminal, where the test plays the person in front of it.
struct Terminal {
    master: std::os::fd::OwnedFd,
}

impl Terminal {
    #[track_caller]
    fn open() -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.expect("a pseudo terminal");
        grantpt(&master).expect("a pseudo terminal of one's own");
        unlockpt(&master).expect("a pseudo terminal of one's own");
        Terminal { master }
    }

    #[track_caller]
    fn for_the_program(&self) -> fs::File {
        use std::os::unix::fs::OpenOptionsExt;
        let name = rustix::pty::ptsname(&self.master, Vec::new()).expect("it has a name");
        let name = name.into_string().expect("a name in ASCII");
        let no_controlling_terminal = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).custom_flags(no_controlling_terminal);
        options.open(name).expect("open a pseudo terminal")
    }

    #[track_caller]
    fn types(&self, keys: &[u8]) {
        rustix::io::write(&self.master, keys).expect("a terminal takes keys");
    }
}

#[test]
fn a_child_that_was_stopped_drains_behind_any_number_of_other_orders() {
    // More than its channel can hold.
    const REOPENINGS: usize = 400;
    let server = Parent::start(&long(&["--drain-timeout", "60"]));
    let mut peer = server.peer();
    peer.send_frame(b"before");
    peer.receives_frame(b"before");
    let child = server.child_of(peer.address());
    child.signal(Signal::STOP);
    for number in 1..=REOPENINGS {
        server.signal(Signal::HUP);
        // One by one: signals that come together merge into one.
        let seen = || server.printed().matches("\"SIGHUP\"").count();
        kernel::wait_until("a signal in the log", || seen() == number);
    }
    server.signal(Signal::TERM);
    server.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
    child.signal(Signal::CONT);
    peer.receives_end();
    let address = peer.address();
    peer.leave();
    server.closes(address, "drain");
    server.ends_with(0);
}

#[test]
fn children_that_are_there_drain_before_the_backlog_has_children() {
    const NEWCOMERS: usize = 120;
    let server = Parent::start(&long(&["--drain-timeout", "60"]));
    let mut idle = server.peer();
    idle.send_frame(b"before");
    idle.receives_frame(b"before");
    // Only the listening process: a stopped child could not drain.
    server.signal(Signal::STOP);
    kernel::wait_until("its stop", || kernel::all_threads_are(server.pid(), 'T'));
    let newcomers: Vec<Peer> = (0..NEWCOMERS).map(|_| server.peer()).collect();
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    idle.receives_end();
    let idle_address = idle.address();
    idle.leave();
    for mut newcomer in newcomers {
        newcomer.receives_end();
        newcomer.leave();
    }
    let close = server.closes(idle_address, "drain");
    let events = server.ends_with(0);
    let at = |event: &Event| events.iter().position(|other| other.line() == event.line());
    let last_start = event::named(&events, "child_start").last().copied().and_then(at);
    assert!(at(&close) < last_start, "the idle client was ended after all of the backlog");
    let active = event::only(&events, "drain_start").count("active");
    assert_eq!(active, NEWCOMERS as u64 + 1);
    assert_eq!(event::drained_and_cut(&events), (active, 0));
}
