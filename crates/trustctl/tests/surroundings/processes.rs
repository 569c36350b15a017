//! Processes that a server did not start but whose parent it has become.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::leave_out;
use trust_testkit::event;
use trust_testkit::kernel::{self, children_of};
use trust_testkit::model::Model;
use trust_testkit::program::Home;
use trust_testkit::server::{NO_FLAGS, Server};

#[test]
fn children_of_a_shell_that_became_the_server_are_reaped_in_every_model() {
    for model in Model::ALL {
        let script = "true & exec \"$0\" \"$@\"";
        let server = Server::of_under(model, Home::new(), NO_FLAGS, move |home, arguments| {
            home.trustctl_in_shell(script, arguments)
        });
        let mut peer = server.peer();
        peer.send_frame(b"served");
        peer.receives_frame(b"served");
        let address = peer.address();
        let pid = server.processes()[0];
        let own = usize::from(model == Model::Process);
        kernel::wait_until("the end of a stranger", || children_of(pid).len() == own);
        peer.leave();
        server.closes(address, "peer_fin");
        server.stop();
    }
}

#[test]
fn orphans_are_reaped_by_a_server_that_is_the_first_process_in_every_model() {
    if !rustix::process::geteuid().is_root() {
        return leave_out("root, for a PID namespace");
    }
    for model in [Model::Event, Model::Iterative, Model::Process] {
        let home = Home::new();
        let arguments = ["echo-server"].iter().chain(model.flags());
        let first = ["unshare", "--pid", "--fork", "--kill-child"];
        let launch = home.trustctl_under(&first, arguments);
        let server = Server::start_as(model, home, launch);
        assert_eq!(server.start_event().count("pid"), 1);
        let [pid] = children_of(server.pid())[..] else { panic!("unshare has one child") };
        // Its parent ends at once, and the namespace's first process becomes its parent.
        let orphan = "sleep 1000 </dev/null >/dev/null 2>&1 &";
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--pid", "sh", "-c", orphan]);
        assert!(command.status().expect("nsenter (util-linux) is there").success());
        kernel::wait_until("an orphan", || children_of(pid).len() == 1);
        for orphan in children_of(pid) {
            signal(orphan, Signal::KILL);
        }
        kernel::wait_until("the end of an orphan", || children_of(pid).is_empty());
        server.serves_the_next();
        kernel::wait_until("the end of all children", || children_of(pid).is_empty());
        signal(pid, Signal::TERM);
        server.has_stopped(0);
    }
}

#[track_caller]
fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process number");
    kill_process(pid, signal).expect("signal a process that runs");
}

#[test]
fn a_drain_has_ended_and_is_logged_before_a_container_would_be_killed() {
    let server = Server::start(["--timeout", "60"]);
    let mut stuck = server.peer();
    // The frame's first bytes, but never its last.
    stuck.send(&[0, 0, 0, 9, b'x']);
    stuck.is_received();
    server.event_about(stuck.address(), "client_connect");
    server.signal(Signal::TERM);
    stuck.is_reset();
    let timeout = server.event_about(stuck.address(), "drain_timeout");
    assert_eq!(timeout.number("drain_timeout_sec"), 8.0, "{timeout:?}");
    let events = server.ends_with(1, &[]);
    assert_eq!(event::drained_and_cut(&events), (0, 1));
}
