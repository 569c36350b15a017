//! Children that do not end on their own, and a parent that does not.

use rustix::process::Signal;

use crate::children::{Parent, Process};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::followed::Followed;
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::peer::{frame, pattern};
use trust_testkit::program::Home;
use trust_testkit::server::Server;
use trust_testkit::witness::Witness;

#[test]
fn a_child_that_dies_in_an_echo_costs_its_own_client_the_connection_and_nobody_else_anything() {
    let deaths = [(Signal::KILL, "SIGKILL"), (Signal::ABORT, "SIGABRT")];
    for (signal, name) in deaths {
        let server = Parent::start(&["--timeout", "60"]);
        let witnesses = [(); 2].map(|()| Witness::connect(server.address()));
        let mut victim = server.peer();
        let address = victim.address();
        victim.send_frame(b"before");
        victim.receives_frame(b"before");
        victim.send(&frame(&pattern(1000))[..500]);
        victim.is_received();
        let child = server.child_of(address);
        child.signal(signal);

        // FIN, or RST if the child had not read everything.
        victim.is_gone();
        let exit = server.event_about(address, "child_exit");
        assert_eq!(exit.text("signal"), name, "{exit:?}");
        assert_eq!(exit.count("signal_number"), signal.as_raw() as u64, "{exit:?}");
        assert_eq!((exit.text("level"), exit.has("exit")), ("warn", false), "{exit:?}");
        assert_eq!(exit.count("pid"), u64::from(child.0));
        let close = server.closes(address, "child_died");
        assert_eq!(close.text("mode"), "auto", "nothing is known of it: {close:?}");
        witnesses.iter().for_each(Witness::is_well);

        server.signal(Signal::USR1);
        let stats = server.wait_for_event("server_stats", |_| true, STEP_DEADLINE);
        assert_eq!((stats.count("active"), stats.count("connections")), (2, 3), "{stats:?}");
        assert!(stats.line().contains("\"child_died\":1"), "{stats:?}");
        assert!(stats.line().contains("\"open\":2"), "{stats:?}");
        for witness in witnesses {
            witness.leaves();
        }
        server.serves_the_next();
        let events = server.stops_with(0);
        assert_eq!(event::named(&events, "client_close").len(), 4);
        assert_eq!(event::named(&events, "child_exit").len(), 4);
    }
}

/// The server has the client from the child, or logs the proxy itself.
#[test]
fn a_child_that_dies_has_its_client_logged_once_before_and_after_the_proxy_header() {
    let server = Parent::start(&["--proxy-protocol", "--timeout", "60", "--proxy-timeout", "60"]);
    let client = "203.0.113.7:4711".parse().expect("an address");
    for begun in [&b"PROXY TCP4 203"[..], b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\nraw"] {
        let mut victim = server.peer();
        let proxy = victim.address();
        victim.send(begun);
        let is_its = |event: &Event| event.text("peer") == proxy.to_string();
        let start = server.wait_for_event("child_start", is_its, STEP_DEADLINE);
        let has_header = begun.ends_with(b"raw");
        if has_header {
            victim.receives(b"raw");
            // A line on its way to stdout or to the file would die with the child.
            server.event_about(client, "client_connect");
            let is_connected = |event: &Event| event.text("peer") == client.to_string();
            Followed::new(&server.log_file()).wait_for("client_connect", is_connected);
        }
        Process(start.count("pid") as u32).signal(Signal::KILL);
        victim.is_gone();
        let close = server.closes(if has_header { client } else { proxy }, "child_died");
        let told = close.has("proxy").then(|| close.text("proxy").to_owned());
        assert_eq!(told, has_header.then(|| proxy.to_string()), "{close:?}");
    }
    // Every connect has its close, which is looked at with all events.
    let events = server.stops_with(0);
    assert_eq!(event::named(&events, "client_connect").len(), 2);
}

#[test]
fn several_children_that_die_at_once_are_all_reaped() {
    const CHILDREN: usize = 20;
    let server = Parent::start(&[]);
    let peers: Vec<_> = (0..CHILDREN).map(|_| server.peer()).collect();
    let children: Vec<_> = peers.iter().map(|peer| server.child_of(peer.address())).collect();
    // While the parent is stopped, their deaths merge into one signal.
    server.pause();
    children.iter().for_each(|child| child.signal(Signal::KILL));
    children.iter().for_each(|child| child.ends());
    server.signal(Signal::CONT);
    server.has_no_children();
    for peer in &peers {
        server.closes(peer.address(), "child_died");
    }
    drop(peers);
    server.serves_the_next();
    server.stops_with(0);
}

#[test]
fn a_child_serves_its_client_to_the_end_when_the_server_is_killed() {
    let home = Home::new();
    let log = home.elsewhere("events.log");
    let path = log.to_string_lossy().into_owned();
    let args = ["echo-server", "--port", "0", "--model", "process", "--log-file", &path];
    let launch = home.trustctl(args);
    let server = Server::start_as(Model::Process, home, launch);
    let server = Parent::over(server);
    let mut peer = server.peer();
    peer.send_frame(b"before");
    peer.receives_frame(b"before");
    let child = server.child_of(peer.address());
    let conn = server.event_about(peer.address(), "client_connect").count("conn");
    server.signal(Signal::KILL);
    let orphaned = || child.stat().is_some_and(|stat| stat.parent != server.pid());
    kernel::wait_until("the end of the server", orphaned);

    peer.send_frame(b"after");
    peer.receives_frame(b"after");
    peer.half_close();
    peer.receives_end();
    child.ends();
    // No one else is left to report it.
    let mut log = Followed::new(&log);
    let close = log.wait_for("client_close", |event| event.count("conn") == conn);
    assert_eq!((close.text("reason"), close.count("frames_out")), ("peer_fin", 2), "{close:?}");
}
