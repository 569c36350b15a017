//! How many clients a proxy has, and how it ends.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use trust_testkit::event;
use trust_testkit::kernel;

use crate::proxy::{Proxy, Through, accept, upstream};

#[test]
fn a_client_without_a_place_is_reset_and_the_next_one_gets_it() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--max-clients", "1"]);
    let mut first = proxy.client();
    let mut server = accept(&listener);
    let second = proxy.resets_a_client();
    let rejected = proxy.event_about(second, "client_reject");
    assert_eq!(rejected.text("reason"), "at_capacity");
    first.half_close();
    server.receives_end();
    server.half_close();
    first.receives_end();
    proxy.event_about(first.address(), "proxy_close");
    let mut third = proxy.client();
    let mut server = accept(&listener);
    third.send(b"question");
    server.receives(b"question");
    drop((third, server));
    let events = proxy.stop();
    assert_eq!(event::only(&events, "proxy_stop").count("rejected"), 1);
}

#[test]
fn connections_may_end_by_themselves_after_sigterm() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    client.send(b"question");
    server.receives(b"question");
    proxy.signal(Signal::TERM);
    proxy.event("drain_start", |event| event.count("active") == 1);
    kernel::wait_until("nothing listening", || {
        std::net::TcpStream::connect(proxy.address()).is_err()
    });
    server.send(b"answer");
    server.half_close();
    client.receives_to_end(b"answer");
    drop((client, server));
    let events = proxy.has_stopped(0);
    assert_eq!(event::drained_and_cut(&events), (1, 0));
}

#[test]
fn what_does_not_end_in_time_after_sigterm_is_cut() {
    let Through { proxy, mut client, mut server } = Through::start(&["--drain-timeout", "300ms"]);
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    client.receives_reset();
    server.receives_reset();
    assert!(began.elapsed() >= Duration::from_millis(300));
    proxy.ends(client.address(), "drain_timeout", ["open", "rst", "open", "rst"]);
    let events = proxy.has_stopped(1);
    assert_eq!(event::drained_and_cut(&events), (0, 1));
}

#[test]
fn a_second_signal_cuts_at_once() {
    let Through { proxy, mut client, mut server } = Through::start(&["--drain-timeout", "1h"]);
    proxy.signal(Signal::INT);
    proxy.event("drain_start", |_| true);
    proxy.signal(Signal::INT);
    client.receives_reset();
    server.receives_reset();
    proxy.ends(client.address(), "second_signal", ["open", "rst", "open", "rst"]);
    proxy.has_stopped(130);
}

#[test]
fn a_proxy_without_connections_stops_at_once() {
    let proxy = Proxy::start("127.0.0.1:1", &[]);
    let began = Instant::now();
    let events = proxy.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(event::only(&events, "proxy_stop").count("connections"), 0);
}

#[test]
fn sigusr1_reports_what_is_there() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    client.send(b"question");
    server.receives(b"question");
    proxy.signal(Signal::USR1);
    let stats = proxy.event("proxy_stats", |_| true);
    assert_eq!((stats.count("connections"), stats.count("active")), (1, 1));
    assert_eq!((stats.count("bytes_up"), stats.count("bytes_down")), (8, 0));
    drop((client, server));
    proxy.stop();
}

#[test]
fn sighup_has_the_log_file_opened_anew() {
    let proxy = Proxy::start("127.0.0.1:1", &[]);
    let (log, moved) = (proxy.home.log_file(), proxy.home.elsewhere("moved"));
    fs::rename(&log, &moved).expect("rename the log");
    proxy.signal(Signal::HUP);
    kernel::wait_until("a new log file", || log.exists());
    proxy.signal(Signal::TERM);
    let home = proxy.home.log_file();
    kernel::wait_until("the last event in the new file", || {
        fs::read_to_string(&home).is_ok_and(|text| text.contains("cmd_finish"))
    });
    proxy.has_stopped(0);
}

#[test]
fn without_descriptors_clients_wait_and_the_proxy_sleeps() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address").to_string();
    let home = trust_testkit::program::Home::new();
    // Room for a few clients; the rest waits in the backlog.
    let script = "ulimit -n 40 && exec \"$0\" \"$@\"";
    let arguments = ["proxy", "0", &address, "--max-clients", "100"];
    let running = home.trustctl_in_shell(script, arguments).start();
    let start = running.wait_for_event("proxy_start", |_| true, trust_testkit::STEP_DEADLINE);
    // The limit of descriptors is far below what is reserved, so one client is allowed.
    assert_eq!(start.count("max_clients"), 1);
    running.wait_for_event("limit_lowered", |_| true, trust_testkit::STEP_DEADLINE);
    running.signal(Signal::TERM);
    running.wait().exits_with(0);
}

/// Sets the soft limit of descriptors of a running proxy; `None`: to the hard one.
#[track_caller]
fn limit_descriptors(proxy: &Proxy, count: Option<u64>) {
    let pid = Pid::from_raw(proxy.pid() as i32);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: count.or(maximum), maximum };
    prlimit(pid, Resource::Nofile, limit).expect("set a limit of a child");
}

#[test]
fn a_client_waits_for_a_descriptor_for_its_upstream() {
    let listener = upstream();
    let proxy = Proxy::start(listener.local_addr().expect("an address"), &[]);
    let descriptors = format!("/proc/{}/fd", proxy.pid());
    let is_open = |number: &u64| fs::symlink_metadata(format!("{descriptors}/{number}")).is_ok();
    let free = (0..).find(|number| !is_open(number)).expect("a free one");
    // One more, which the client takes.
    limit_descriptors(&proxy, Some(free + 1));
    let mut client = proxy.client();
    client.send(b"question");
    let paused = proxy.event("accept_paused", |_| true);
    assert_eq!(paused.text("errno_name"), "EMFILE", "{paused:?}");
    limit_descriptors(&proxy, None);
    let mut server = accept(&listener);
    server.receives(b"question");
    proxy.event("accept_resumed", |_| true);
    drop((client, server));
    let events = proxy.stop();
    assert_eq!(event::named(&events, "upstream_failed").len(), 0);
}
