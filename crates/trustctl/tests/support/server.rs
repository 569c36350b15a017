//! An echo server under test: started on a free port, watched through its events, stopped and checked.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::STEP_DEADLINE;
use super::event::{self, Event};
use super::kernel;
use super::peer::Peer;
use super::program::{Finished, Home, Launch, Running};

/// A server that listens, killed and reaped when dropped.
pub(crate) struct Server {
    running: Running,
    start: Event,
    home: Home,
    clients_home: Home,
}

impl Server {
    /// Starts a server with these flags, in a fresh home, on a port that the system chooses.
    #[track_caller]
    pub(crate) fn start<A: AsRef<OsStr>>(flags: impl IntoIterator<Item = A>) -> Server {
        Server::start_in(Home::new(), flags)
    }

    /// Starts a server in that home; returns when it listens.
    #[track_caller]
    pub(crate) fn start_in<A: AsRef<OsStr>>(
        home: Home,
        flags: impl IntoIterator<Item = A>,
    ) -> Server {
        let launch = home.trustctl(["echo-server", "--port", "0"]).args(flags);
        Server::start_as(home, launch)
    }

    /// Starts a server in that home by a command line of the caller's; returns when it listens.
    #[track_caller]
    pub(crate) fn start_as(home: Home, launch: Launch) -> Server {
        let running = launch.start();
        let start = running.wait_for_event("server_start", |_| true, STEP_DEADLINE);
        Server { running, start, home, clients_home: Home::new() }
    }

    /// The `server_start` event.
    pub(crate) fn start_event(&self) -> &Event {
        &self.start
    }

    pub(crate) fn port(&self) -> u16 {
        u16::try_from(self.start.count("port")).expect("a port fits into 16 bits")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Stops the process with SIGSTOP, until it gets SIGCONT or is killed. Other threads than the one
    /// that takes the signal may run on for a while; when this returns, none does.
    #[track_caller]
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        kernel::wait_until("the stop of all threads", || kernel::all_threads_are(self.pid(), 'T'));
    }

    /// A new scripted peer, connected.
    #[track_caller]
    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(self.address())
    }

    /// `echo-client` for this server, with a home of its own.
    pub(crate) fn echo_client<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Launch {
        let port = self.port().to_string();
        self.clients_home.echo_client(["127.0.0.1", &port]).args(args)
    }

    /// `echo-load-test` for this server, with a home of its own.
    pub(crate) fn echo_load_test<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Launch {
        let port = self.port().to_string();
        self.clients_home.echo_load_test(["--host", "127.0.0.1", "--port", &port]).args(args)
    }

    /// Waits for an event on the server's stdout, from the first line on.
    #[track_caller]
    pub(crate) fn wait_for_event(
        &self,
        name: &str,
        predicate: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Event {
        self.running.wait_for_event(name, predicate, deadline)
    }

    /// Waits for an event about the connection of the peer with that address.
    #[track_caller]
    pub(crate) fn event_about(&self, peer: SocketAddr, name: &str) -> Event {
        let peer = peer.to_string();
        let about_it = |event: &Event| event.text("peer") == peer;
        let conn = self.wait_for_event("client_connect", about_it, STEP_DEADLINE).count("conn");
        let of_it = |event: &Event| event.count("conn") == conn;
        self.wait_for_event(name, of_it, STEP_DEADLINE)
    }

    /// Waits until the connection of that peer is closed, and checks why.
    #[track_caller]
    pub(crate) fn closes(&self, peer: SocketAddr, reason: &str) -> Event {
        let close = self.event_about(peer, "client_close");
        assert_eq!(close.text("reason"), reason, "closed for another reason, {close:?}");
        close
    }

    /// Checks that a new client gets exactly what it sends.
    #[track_caller]
    pub(crate) fn serves_the_next(&self) {
        let mut peer = self.peer();
        peer.send_frame(b"are you there?");
        peer.receives_frame(b"are you there?");
        let address = peer.address();
        peer.half_close();
        peer.receives_end();
        self.closes(address, "peer_fin");
    }

    /// Where its event log is by default.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.home.log_file()
    }

    /// How many descriptors the process has open.
    pub(crate) fn descriptor_count(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(directory).expect("the server runs").count()
    }

    /// Waits until the process has that many descriptors open again.
    #[track_caller]
    pub(crate) fn comes_back_to_descriptors(&self, wanted: usize) {
        let started = Instant::now();
        loop {
            let count = self.descriptor_count();
            if count == wanted {
                return;
            }
            assert!(started.elapsed() < STEP_DEADLINE, "{count} descriptors, {wanted} before");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Memory of the process that is in RAM, in bytes (VmRSS, proc_pid_status(5)).
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a line VmRSS");
        kib.trim().parse::<u64>().expect("a number of kB") * 1024
    }

    /// Stops the server with SIGTERM, which must drain every connection, and checks what it logged.
    #[track_caller]
    pub(crate) fn stop(self) -> Vec<Event> {
        self.stop_with(Signal::TERM, 0)
    }

    /// Stops the server with SIGTERM, which must drain every connection, and checks what it printed, not
    /// what is in the file: for a server whose log is elsewhere or was disturbed.
    #[track_caller]
    pub(crate) fn stop_with_log_elsewhere(self) -> Vec<Event> {
        self.signal(Signal::TERM);
        let finished = self.running.wait().exits_with(0).complains_about_nothing();
        let printed = finished.events();
        event::check_run(&printed);
        event::check_connections(&printed);
        printed
    }

    /// Stops the server with a signal, expects an exit code, and checks what it logged.
    #[track_caller]
    pub(crate) fn stop_with(self, signal: Signal, code: i32) -> Vec<Event> {
        self.signal(signal);
        self.has_stopped(code)
    }

    /// Waits for the end of a server that was told to stop, expects an exit code, and checks what it
    /// logged.
    #[track_caller]
    pub(crate) fn has_stopped(self, code: i32) -> Vec<Event> {
        self.ends_with(code, &[])
    }

    /// Waits for the end of the server, expects an exit code, and checks what it logged: every line
    /// an event, one close for each connect, stdout and file the same, stderr empty or with each of
    /// the words.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32, complaint: &[&str]) -> Vec<Event> {
        let finished = self.running.wait().exits_with(code);
        let finished = match complaint {
            [] => finished.complains_about_nothing(),
            words => finished.complains_about(words).complains_in_one_line(),
        };
        checked_log(&self.home, &finished)
    }

    /// Waits for the end of a server that was told to stop, and checks what it logged as
    /// [`Server::ends_with`] does. Whether its exit code, which is returned too, is the right one is for
    /// the caller to say.
    #[track_caller]
    pub(crate) fn has_ended(self) -> (Option<i32>, Vec<Event>) {
        let finished = self.running.wait().complains_about_nothing();
        (finished.code(), checked_log(&self.home, &finished))
    }

    /// What was printed on stdout so far.
    pub(crate) fn printed(&self) -> String {
        self.running.printed()
    }
}

#[track_caller]
fn checked_log(home: &Home, finished: &Finished) -> Vec<Event> {
    let printed = finished.events();
    event::check_run(&printed);
    event::check_connections(&printed);
    let logged = home.logged();
    event::check_connections(&logged);
    assert_eq!(sorted_lines(&logged), sorted_lines(&printed), "the log file and stdout differ");
    printed
}

/// Threads may write to the two places in different orders.
fn sorted_lines(events: &[Event]) -> Vec<&str> {
    let mut lines: Vec<&str> = events.iter().map(Event::line).collect();
    lines.sort_unstable();
    lines
}
