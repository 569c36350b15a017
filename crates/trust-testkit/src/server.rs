//! An echo server under test: started on a free port, observed through its events, stopped and
//! checked.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::STEP_DEADLINE;
use super::event::{self, Event};
use super::followed::Followed;
use super::kernel::{self, Efforts};
use super::model::Model;
use super::peer::Peer;
use super::program::{Finished, Home, Launch, Running};
use super::super_server::SuperServer;
use super::witness::Witness;

/// For a server with only defaults.
pub const NO_FLAGS: [&str; 0] = [];

/// Clients at a time, where a process for each must end before the next ones come.
pub const CHILDREN_AT_ONCE: usize = 64;

/// A listening server, killed and reaped when dropped.
///
/// With the model `inetd` it is many programs, one per client, which share the log file. This type
/// covers both, so that a test need not care which it is.
pub struct Server {
    model: Model,
    what: What,
    home: Arc<Home>,
    clients_home: Home,
}

enum What {
    /// A process that listens, possibly with children, and its `server_start`.
    Listening(Running, Event),
    /// The programs that the test starts, and the file that they log to.
    Started(SuperServer, Mutex<Followed>),
}

impl Server {
    /// Starts a server with these flags, in a new home, on a port chosen by the system.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(flags: impl IntoIterator<Item = A>) -> Server {
        Server::of(Model::Event, flags)
    }

    /// Starts a server of this model with these flags; returns when it listens.
    #[track_caller]
    pub fn of<A: AsRef<OsStr>>(model: Model, flags: impl IntoIterator<Item = A>) -> Server {
        Server::of_in(model, Home::new(), flags)
    }

    /// Starts a server of this model in this home; returns when it listens.
    #[track_caller]
    pub fn of_in<A: AsRef<OsStr>>(
        model: Model,
        home: Home,
        flags: impl IntoIterator<Item = A>,
    ) -> Server {
        Server::of_under(model, home, flags, |home, arguments| home.trustctl(arguments))
    }

    /// Starts a server of this model in this home, with a command line that `launch` makes from the
    /// arguments; returns when it listens.
    #[track_caller]
    pub fn of_under<A: AsRef<OsStr>>(
        model: Model,
        home: Home,
        flags: impl IntoIterator<Item = A>,
        launch: impl Fn(&Home, &[OsString]) -> Launch + Send + 'static,
    ) -> Server {
        let own = ["echo-server"].iter().chain(model.flags()).copied().map(OsString::from);
        let flags = flags.into_iter().map(|flag| flag.as_ref().to_owned());
        let arguments: Vec<OsString> = own.chain(flags).collect();
        if model != Model::Inetd {
            let launch = launch(&home, &arguments);
            return Server::start_as(model, home, launch);
        }
        let home = Arc::new(home);
        let log = Mutex::new(Followed::new(&home.log_file()));
        let place = Arc::clone(&home);
        let programs = SuperServer::start(home.log_file(), move || launch(&place, &arguments));
        Server { model, what: What::Started(programs, log), home, clients_home: Home::new() }
    }

    /// Starts a server of this model, which must listen itself, in this home with the caller's
    /// command line; returns when it listens.
    #[track_caller]
    pub fn start_as(model: Model, home: Home, launch: Launch) -> Server {
        let running = launch.start();
        let start = running.wait_for_event("server_start", |_| true, STEP_DEADLINE);
        let what = What::Listening(running, start);
        Server { model, what, home: Arc::new(home), clients_home: Home::new() }
    }

    /// The `server_start` event of a server that listens itself.
    #[track_caller]
    pub fn start_event(&self) -> &Event {
        self.listening().1
    }

    pub fn port(&self) -> u16 {
        match &self.what {
            What::Listening(_, start) => {
                u16::try_from(start.count("port")).expect("a port fits into 16 bits")
            }
            What::Started(programs, _) => programs.port(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// The process that listens.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.listening().0.pid()
    }

    #[track_caller]
    fn listening(&self) -> (&Running, &Event) {
        match &self.what {
            What::Listening(running, start) => (running, start),
            What::Started(..) => panic!("a super-server's program does not listen"),
        }
    }

    /// All its processes, the listening one first. Any of the others may end at any time.
    pub fn processes(&self) -> Vec<u32> {
        match &self.what {
            What::Listening(running, _) if self.model.has_children() => {
                [vec![running.pid()], kernel::children_of(running.pid())].concat()
            }
            What::Listening(running, _) => vec![running.pid()],
            What::Started(programs, _) => programs.processes(),
        }
    }

    /// Sends a signal to the owner of the connections: the listening process, or every program.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        match &self.what {
            What::Listening(running, _) => running.signal(signal),
            What::Started(programs, _) => programs.signal(signal),
        }
    }

    /// Stops all processes with SIGSTOP until [`Server::resume`] or their end, and accepts no
    /// clients meanwhile. Threads other than the one that takes the signal may run on for a while;
    /// when this returns, none is running.
    #[track_caller]
    pub fn pause(&self) {
        if let What::Started(programs, _) = &self.what {
            programs.stops_accepting();
        }
        self.signal(Signal::STOP);
        if let What::Listening(running, _) = &self.what {
            // Stop the children after it: it sleeps until a child that it is starting has executed
            // the program.
            let pid = running.pid();
            kernel::wait_until("the server's stop", || kernel::all_threads_are(pid, 'T'));
            self.signal_children(Signal::STOP);
        }
        kernel::wait_until("the stop of all threads", || self.all_threads_are('T'));
    }

    /// Resumes all processes.
    #[track_caller]
    pub fn resume(&self) {
        self.signal_children(Signal::CONT);
        self.signal(Signal::CONT);
        if let What::Started(programs, _) = &self.what {
            programs.goes_on();
        }
    }

    /// Kills all processes.
    #[track_caller]
    pub fn kill(&self) {
        if self.model.has_children() {
            // So that no new process is started meanwhile.
            self.pause();
        }
        // The children first: when their parent ends, stopped ones are continued (setpgid(2)).
        self.signal_children(Signal::KILL);
        self.signal(Signal::KILL);
    }

    /// Sends a signal to the children of the listening process.
    fn signal_children(&self, signal: Signal) {
        if let What::Started(..) = self.what {
            return;
        }
        let children = self.processes().split_off(1).into_iter();
        for child in children.filter_map(|pid| Pid::from_raw(pid as i32)) {
            // Fails only for a child that has ended.
            let _ = kill_process(child, signal);
        }
    }

    /// Whether all threads of all processes are in this state (see [`kernel::all_threads_are`]),
    /// not counting zombies.
    pub fn all_threads_are(&self, state: char) -> bool {
        let are = |pid, state| kernel::all_threads_if_there(pid, state).unwrap_or(true);
        self.processes().into_iter().all(|pid| are(pid, state) || are(pid, 'Z'))
    }

    /// A memory size (see [`kernel::status_bytes`]), summed over all processes, in bytes.
    pub fn memory(&self, name: &str) -> u64 {
        let processes = self.processes().into_iter();
        processes.filter_map(|pid| kernel::status_bytes_if_there(pid, name)).sum()
    }

    /// The work done by all processes so far.
    pub fn efforts(&self) -> Efforts {
        Efforts::of(self.processes())
    }

    /// Resets `VmHWM` of all processes to current memory use.
    pub fn forget_peak_memory(&self) {
        self.processes().into_iter().for_each(kernel::forget_peak_memory);
    }

    /// A new scripted peer, connected.
    #[track_caller]
    pub fn peer(&self) -> Peer {
        Peer::connect(self.address())
    }

    /// A well-behaved client that is being served by a server that has [settled](Server::settles)
    /// with it.
    #[track_caller]
    pub fn witness(&self) -> Witness {
        let witness = Witness::connect(self.address());
        self.settles(witness.address());
        witness
    }

    /// `echo-client` for this server, with its own home.
    pub fn echo_client<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Launch {
        let port = self.port().to_string();
        self.clients_home.echo_client(["127.0.0.1", &port]).args(args)
    }

    /// `echo-load-test` for this server, with its own home.
    pub fn echo_load_test<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Launch {
        let port = self.port().to_string();
        self.clients_home.echo_load_test(["--host", "127.0.0.1", "--port", &port]).args(args)
    }

    /// Waits for an event, searching from the first one: on the server's stdout, or in the
    /// programs' log file.
    #[track_caller]
    pub fn wait_for_event(
        &self,
        name: &str,
        predicate: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Event {
        match &self.what {
            What::Listening(running, _) => running.wait_for_event(name, predicate, deadline),
            What::Started(..) => self
                .find_event(name, predicate, deadline)
                .unwrap_or_else(|| panic!("no fitting {name} event within {deadline:?}")),
        }
    }

    /// The first such event, if it comes in time.
    pub fn find_event(
        &self,
        name: &str,
        predicate: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Option<Event> {
        let log = match &self.what {
            What::Listening(running, _) => {
                return running.find_event(name, predicate, deadline).ok();
            }
            What::Started(_, log) => log,
        };
        let started = Instant::now();
        loop {
            let found = lock(log).find(name, &predicate);
            if found.is_some() || started.elapsed() >= deadline {
                return found;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits for an event about the connection of the peer with that address.
    #[track_caller]
    pub fn event_about(&self, peer: SocketAddr, name: &str) -> Event {
        let peer = peer.to_string();
        let about_it = |event: &Event| event.text("peer") == peer;
        let mut connects = vec![self.wait_for_event("client_connect", about_it, STEP_DEADLINE)];
        // A port that an RST has freed may have been reused by now.
        while let Some(later) = self.find_event(
            "client_connect",
            |event| about_it(event) && !connects.iter().any(|one| event.is_of_connection_of(one)),
            Duration::ZERO,
        ) {
            connects.push(later);
        }
        let of_it =
            |event: &Event| connects.last().is_some_and(|last| event.is_of_connection_of(last));
        self.wait_for_event(name, of_it, STEP_DEADLINE)
    }

    /// Waits until the connection of that peer is closed, and checks why.
    #[track_caller]
    pub fn closes(&self, peer: SocketAddr, reason: &str) -> Event {
        let close = self.is_closed(peer);
        assert_eq!(close.text("reason"), reason, "closed for another reason, {close:?}");
        close
    }

    /// Waits until the connection of that peer is closed, and checks that the kernel holds no byte
    /// of it. Otherwise the server would leave behind memory that none of its limits count, but for
    /// which it would be blamed.
    #[track_caller]
    pub fn is_closed(&self, peer: SocketAddr) -> Event {
        let close = self.event_about(peer, "client_close");
        if let (SocketAddr::V4(server), SocketAddr::V4(peer)) = (self.address(), peer) {
            kernel::leaves_nothing(server, peer);
        }
        close
    }

    /// Checks that a new client gets back exactly what it sends.
    #[track_caller]
    pub fn serves_the_next(&self) {
        self.serves_the_next_ones(1);
    }

    /// The default path of its event log.
    pub fn log_file(&self) -> PathBuf {
        self.home.log_file()
    }

    /// Checks that this many new clients get back exactly what they send; in batches if each has a
    /// process, which may take a while to end.
    #[track_caller]
    pub fn serves_the_next_ones(&self, count: usize) {
        let at_once = if self.model.has_children() { CHILDREN_AT_ONCE } else { 1 };
        for begun in (0..count).step_by(at_once) {
            let peers = (begun..count).take(at_once).map(|_| self.peer()).collect();
            for address in all_are_served(peers) {
                self.closes(address, "peer_fin");
            }
        }
    }

    /// Waits until it has closed the descriptors that it needed only to start serving that client.
    /// The client must have been served.
    #[track_caller]
    pub fn settles(&self, peer: SocketAddr) {
        if self.model == Model::Process {
            // The child may serve while the server still has the connection open, and the child's
            // end of their channel.
            self.event_about(peer, "child_start");
        }
    }

    /// How many descriptors the processes have open, once it has [settled](Server::settles) with
    /// its last client.
    #[track_caller]
    pub fn descriptor_count(&self) -> usize {
        if let What::Started(..) = self.what {
            kernel::wait_until("all programs sleeping", || self.all_threads_are('S'));
        }
        self.open_descriptors()
    }

    pub fn open_descriptors(&self) -> usize {
        let of = |pid| {
            let directory = std::fs::read_dir(format!("/proc/{pid}/fd"));
            directory.map_or(0, Iterator::count)
        };
        self.processes().into_iter().map(of).sum()
    }

    /// Waits until the processes have this many descriptors open again, and none is a zombie.
    #[track_caller]
    pub fn comes_back_to_descriptors(&self, wanted: usize) {
        let started = Instant::now();
        let is_zombie = |pid: u32| kernel::all_threads_if_there(pid, 'Z') == Some(true);
        loop {
            let count = self.open_descriptors();
            let zombies = self.processes().into_iter().filter(|pid| is_zombie(*pid)).count();
            if count == wanted && zombies == 0 {
                return;
            }
            assert!(
                started.elapsed() < STEP_DEADLINE,
                "{count} descriptors, {wanted} before; {zombies} zombies"
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Stops the server with SIGTERM, which must drain every connection, and checks its log.
    #[track_caller]
    pub fn stop(self) -> Vec<Event> {
        self.stop_with(Signal::TERM, 0)
    }

    /// Stops the server with SIGTERM, which must drain every connection, and checks its stdout but
    /// not its log file: for a server whose log is elsewhere or was disturbed.
    #[track_caller]
    pub fn stop_with_log_elsewhere(self) -> Vec<Event> {
        self.signal(Signal::TERM);
        let What::Listening(running, _) = self.what else {
            panic!("a super-server's programs print nothing");
        };
        let finished = running.wait().exits_with(0).complains_about_nothing();
        let printed = finished.events();
        event::check_run(&printed);
        event::check_connections(&printed);
        printed
    }

    /// Stops the server with a signal, expects this exit code, and checks its log.
    #[track_caller]
    pub fn stop_with(self, signal: Signal, code: i32) -> Vec<Event> {
        self.signal(signal);
        self.has_stopped(code)
    }

    /// Waits for the end of a server that was told to stop, expects this exit code, and checks its
    /// log.
    #[track_caller]
    pub fn has_stopped(self, code: i32) -> Vec<Event> {
        self.ends_with(code, &[])
    }

    /// Waits for the end of the server, expects this exit code, and checks its log: every line is
    /// an event, every connect has one close, stdout and file are the same, and stderr is empty or
    /// contains each of the words.
    ///
    /// Programs of a super-server have only the file, and the code is that of drained ones.
    #[track_caller]
    pub fn ends_with(self, code: i32, complaint: &[&str]) -> Vec<Event> {
        let Server { what, home, .. } = self;
        match what {
            What::Listening(running, _) => {
                let finished = running.wait().exits_with(code);
                let finished = match complaint {
                    [] => finished.complains_about_nothing(),
                    words => finished.complains_about(words).complains_in_one_line(),
                };
                checked_log(&home, &finished)
            }
            What::Started(programs, log) => {
                let ended = programs.wait().into_iter().map(|status| status.code()).collect();
                let log = log.into_inner().unwrap_or_else(PoisonError::into_inner);
                checked_runs(log, ended, code)
            }
        }
    }

    /// Waits for the end of a server that was told to stop, and checks its log as
    /// [`Server::ends_with`] does. Returns the exit code too, which the caller must check.
    #[track_caller]
    pub fn has_ended(self) -> (Option<i32>, Vec<Event>) {
        let Server { what: What::Listening(running, _), home, .. } = self else {
            panic!("a super-server's programs have many exit codes");
        };
        let finished = running.wait().complains_about_nothing();
        (finished.code(), checked_log(&home, &finished))
    }

    /// The stdout so far.
    #[track_caller]
    pub fn printed(&self) -> String {
        self.listening().0.printed()
    }
}

/// Checks that each peer gets exactly what it sends, and the end; returns their addresses.
#[track_caller]
pub fn all_are_served(mut peers: Vec<Peer>) -> Vec<SocketAddr> {
    peers.iter_mut().for_each(|peer| peer.send_frame(b"are you there?"));
    for peer in &mut peers {
        peer.receives_frame(b"are you there?");
        peer.half_close();
    }
    for peer in &mut peers {
        peer.receives_end();
    }
    peers.iter().map(Peer::address).collect()
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

/// Checks the log of programs with one connection each, and that each has exited with the code for
/// the end of its connection: after a drain that is `drained`.
#[track_caller]
fn checked_runs(log: Followed, mut ended: Vec<Option<i32>>, drained: i32) -> Vec<Event> {
    let (events, torn) = log.finish();
    assert!(torn.is_empty(), "torn lines in the log: {torn:?}");
    let mut expected = Vec::new();
    for run in event::runs(&events) {
        event::check_run(&run);
        event::check_connections(&run);
        let exit = event::only(&run, "cmd_finish").count("exit") as i32;
        let close = event::only(&run, "client_close");
        let allowed = match close.text("reason") {
            "peer_fin" | "max_lifetime" => vec![0],
            "recv_timeout" | "send_timeout" | "frame_timeout" | "proxy_header_timeout" => vec![75],
            "truncated_frame" | "frame_too_large" | "client_reset" | "broken_pipe" => vec![76],
            "proxy_header_invalid" => vec![76],
            "client_unreachable" => vec![69, 75],
            "io_error" => vec![74],
            "drain" => vec![0, drained],
            "drain_timeout" | "second_signal" => vec![drained],
            other => panic!("an unknown reason {other}"),
        };
        assert!(allowed.contains(&exit), "{allowed:?} expected for {close:?}, not {exit}");
        expected.push(Some(exit));
    }
    ended.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ended, expected, "how the programs ended, and how they say that they did");
    assert!(drained == 0 || ended.contains(&Some(drained)), "no program ended with {drained}");
    events
}

/// Threads may write to the two outputs in different orders.
fn sorted_lines(events: &[Event]) -> Vec<&str> {
    let mut lines: Vec<&str> = events.iter().map(Event::line).collect();
    lines.sort_unstable();
    lines
}

fn lock(log: &Mutex<Followed>) -> MutexGuard<'_, Followed> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
