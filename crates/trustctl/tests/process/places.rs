//! How many children there may be, what else they need, what happens if none can be started, and
//! that none remains.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::children::{Parent, Process, children_of};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event;
use trust_testkit::model::Model;
use trust_testkit::peer::Peer;
use trust_testkit::program::Home;
use trust_testkit::server::Server;

#[test]
fn as_many_children_as_clients_are_allowed() {
    let server = Parent::start(&["--max-clients", "2"]);
    let mut served = [server.peer(), server.peer()];
    for peer in &mut served {
        peer.send_frame(b"served");
        peer.receives_frame(b"served");
    }
    let mut third = server.peer();
    third.receives_end();
    let address = third.address().to_string();
    third.leave();
    let is_it = |event: &event::Event| event.text("peer") == address;
    server.wait_for_event("client_reject", is_it, STEP_DEADLINE);
    assert_eq!(children_of(server.pid()).len(), 2);
    // A slot is free once the close is logged.
    let [one, other] = served;
    let address = one.address();
    one.leave();
    server.closes(address, "peer_fin");
    server.serves_the_next();
    other.leave();
    let events = server.stops_with(0);
    assert_eq!(event::only(&events, "server_stop").count("rejected"), 1);
    assert_eq!(event::named(&events, "child_start").len(), 3);
}

#[test]
fn without_a_wish_there_are_at_most_a_thousand_children_and_fewer_with_few_threads() {
    let server = Parent::start(&[]);
    assert!(server.start_event().count("max_clients") <= 1000);
    server.stops_with(0);
    let home = Home::new();
    let args = ["echo-server", "--port", "0", "--model", "process"];
    let launch = home.trustctl_under(&["prlimit", "--nproc=464"], args);
    let server = Parent::over(Server::start_as(Model::Process, home, launch));
    assert_eq!(server.start_event().count("max_clients"), 100);
    server.stops_with(0);
}

#[test]
fn who_finds_no_descriptors_for_a_child_is_served_once_there_are_some() {
    let server = Parent::start(&[]);
    let mut before = server.peer();
    before.send_frame(b"before");
    before.receives_frame(b"before");
    server.settles(before.address());
    let open = Process(server.pid()).descriptor_numbers();
    let mut free = (0..).filter(|number| !open.contains(number));
    // Room for a connection, but not for the channel that goes with it.
    let limit = free.nth(1).map(u64::from);
    let usual = getrlimit(Resource::Nofile).maximum;
    set_limit(&server, Resource::Nofile, limit);
    let mut waiting = server.peer();
    waiting.send_frame(b"a child?");
    let paused = server.wait_for_event("accept_paused", |_| true, STEP_DEADLINE);
    assert_eq!(paused.text("errno_name"), "EMFILE", "{paused:?}");
    before.send_frame(b"meanwhile");
    before.receives_frame(b"meanwhile");
    set_limit(&server, Resource::Nofile, usual);
    waiting.receives_frame(b"a child?");
    server.wait_for_event("accept_resumed", |_| true, STEP_DEADLINE);
    before.leave();
    waiting.leave();
    let events = server.stops_with(0);
    assert_eq!(event::named(&events, "accept_paused").len(), 1, "it says so once");
    assert_eq!(event::named(&events, "child_start").len(), 2);
}

#[test]
fn who_finds_no_room_for_a_process_is_served_once_there_is_some_but_not_by_a_server_that_stops() {
    /// An unused user ID: root has no such limit.
    const USER: u32 = 54_321;
    let home = Home::new();
    let args = ["echo-server", "--port", "0", "--model", "process"];
    let launch = match rustix::process::geteuid().is_root() {
        true => home.trustctl_as(USER, args),
        false => home.trustctl(args),
    };
    let server = Parent::over(Server::start_as(Model::Process, home, launch));
    set_process_limit(&server, USER, Some(1));
    let mut waiting = server.peer();
    waiting.send_frame(b"a child?");
    let paused = server.wait_for_event("accept_paused", |_| true, STEP_DEADLINE);
    assert_eq!(paused.text("errno_name"), "EAGAIN", "{paused:?}");
    set_process_limit(&server, USER, getrlimit(Resource::Nproc).maximum);
    waiting.receives_frame(b"a child?");
    server.wait_for_event("accept_resumed", |_| true, STEP_DEADLINE);
    waiting.leave();

    set_process_limit(&server, USER, Some(1));
    let mut unlucky = server.peer();
    server.event_about(unlucky.address(), "client_connect");
    let address = unlucky.address();
    server.signal(Signal::TERM);
    unlucky.is_gone();
    let events = server.ends_with(0);
    let failed = event::only(&events, "child_start_failed");
    assert_eq!(failed.text("errno_name"), "EAGAIN", "{failed:?}");
    assert_eq!(failed.text("peer"), address.to_string(), "{failed:?}");
    // The previous client's child may report later how that client left.
    let close = event::only_about(&events, address, "client_close");
    assert_eq!(close.text("reason"), "io_error", "{close:?}");
}

#[test]
fn signals_that_were_inherited_as_blocked_do_their_work() {
    let home = Home::new();
    let args = ["echo-server", "--port", "0", "--model", "process", "--max-clients", "3"];
    let launch = home.trustctl_under(&["env", "--block-signal=CHLD,TERM,INT"], args);
    let server = Parent::over(Server::start_as(Model::Process, home, launch));
    for _ in 0..6 {
        server.serves_the_next();
        server.has_no_children();
    }
    server.stops_with(0);
}

#[test]
fn a_child_is_not_stopped_for_writing_to_its_server_s_terminal() {
    /// SIGTTOU, from the lowest bit.
    const TTOU: u64 = 1 << (22 - 1);
    let server = Parent::start(&[]);
    let mut peer = server.peer();
    peer.send_frame(b"here");
    peer.receives_frame(b"here");
    let child = server.child_of(peer.address());
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0)).expect("it serves");
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    assert!(blocked.is_some_and(|mask| mask & TTOU != 0), "{status}");
    peer.leave();
    server.stops_with(0);
}

/// Makes the server's own user, who needs no privilege for it, lower or raise its soft limit of
/// processes.
#[track_caller]
fn set_process_limit(server: &Parent, user: u32, limit: Option<u64>) {
    let mut command = Command::new("prlimit");
    if rustix::process::geteuid().is_root() {
        command.uid(user).gid(user);
    }
    let limit = limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    command.args(["--pid", &server.pid().to_string(), &format!("--nproc={limit}:")]);
    let status = command.status().expect("prlimit (util-linux) is there");
    assert!(status.success(), "prlimit: {status}");
}

/// Lowers or raises a soft limit of a running server.
#[track_caller]
fn set_limit(server: &Parent, resource: Resource, current: Option<u64>) {
    let pid = Pid::from_raw(server.pid() as i32);
    let limit = Rlimit { current, maximum: getrlimit(resource).maximum };
    prlimit(pid, resource, limit).expect("set a limit of a child");
}

#[test]
fn after_ten_thousand_connections_no_zombie_and_no_child_is_left() {
    const CONNECTIONS: usize = 10_000;
    const CLIENTS: usize = 4;
    /// Children that may be waiting to be reaped at one moment, on a busy core.
    const ZOMBIES_MAX: usize = 500;
    const LOOK_INTERVAL: Duration = Duration::from_millis(50);
    let server = Parent::start(&[]);
    let (pid, address) = (server.pid(), server.address());
    let descriptors = server.descriptor_count();
    let is_over = AtomicBool::new(false);
    let (most, looks) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut most, mut looks) = (0, 0);
            while !is_over.load(Ordering::SeqCst) {
                let zombies = children_of(pid).iter().filter(|(_, state)| *state == 'Z').count();
                (most, looks) = (most.max(zombies), looks + 1);
                thread::park_timeout(LOOK_INTERVAL);
            }
            (most, looks)
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(move || {
                    for number in 0..CONNECTIONS / CLIENTS {
                        let mut peer = Peer::connect(address);
                        let payload = number.to_be_bytes();
                        peer.send_frame(&payload);
                        peer.receives_frame(&payload);
                        peer.half_close();
                        peer.receives_end();
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        assert!(outcomes.iter().all(Result::is_ok), "every echo is exact");
        watch.join().expect("it only looks")
    });
    assert!(looks > 1, "no one looked");
    assert!(most < ZOMBIES_MAX, "{most} zombies at one moment");
    server.has_no_children();
    server.comes_back_to_descriptors(descriptors);
    let events = server.stops_with(0);
    assert_eq!(event::named(&events, "client_close").len(), CONNECTIONS);
    assert_eq!(event::named(&events, "child_exit").len(), CONNECTIONS);
    let stop = event::only(&events, "server_stop");
    assert_eq!(stop.count("frames_out"), CONNECTIONS as u64, "{stop:?}");
}
