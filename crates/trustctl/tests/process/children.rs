//! A server with children, and what the kernel knows about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;

use rustix::process::{Pid, Signal, kill_process};

use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::server::Server;

/// A server of this model.
pub(crate) struct Parent(Server);

impl Parent {
    #[track_caller]
    pub(crate) fn start(flags: &[&str]) -> Parent {
        Parent(Server::of(Model::Process, flags))
    }

    pub(crate) fn over(server: Server) -> Parent {
        Parent(server)
    }

    /// The child that serves the peer with this address.
    #[track_caller]
    pub(crate) fn child_of(&self, peer: SocketAddr) -> Process {
        Process(self.event_about(peer, "child_start").count("pid") as u32)
    }

    /// Waits until every child has been reaped.
    #[track_caller]
    pub(crate) fn has_no_children(&self) {
        let server = self.pid();
        kernel::wait_until("the end of all children", || children_of(server).is_empty());
    }

    /// Stops the server with SIGTERM, expects this exit code, and checks its log.
    #[track_caller]
    pub(crate) fn stops_with(self, code: i32) -> Vec<Event> {
        self.0.signal(Signal::TERM);
        self.ends_with(code)
    }

    /// The same for a server whose log file was moved: only its stdout is checked.
    #[track_caller]
    pub(crate) fn stops_with_log_elsewhere(self) -> Vec<Event> {
        let events = self.0.stop_with_log_elsewhere();
        check_children(&events);
        events
    }

    /// Waits for the end of a server that was told to stop, expects this exit code, and checks its
    /// log.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Vec<Event> {
        let events = self.0.has_stopped(code);
        check_children(&events);
        events
    }
}

impl Deref for Parent {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// Checks that every child that was started has exited once, and had its own connection.
#[track_caller]
pub(crate) fn check_children(events: &[Event]) {
    let of = |name| -> Vec<(u64, u64)> {
        let mut found: Vec<_> = event::named(events, name)
            .iter()
            .map(|event| (event.count("conn"), event.count("pid")))
            .collect();
        found.sort_unstable();
        found
    };
    let started = of("child_start");
    assert_eq!(started, of("child_exit"), "started, and exited");
    let connections: Vec<u64> = started.iter().map(|(connection, _)| *connection).collect();
    let mut once = connections.clone();
    once.dedup();
    assert_eq!(connections, once, "a connection with two children");
}

/// A process that the test did not start itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    #[track_caller]
    pub(crate) fn signal(self, signal: Signal) {
        let pid = Pid::from_raw(self.0 as i32).expect("a process number");
        kill_process(pid, signal).expect("signal a child that runs");
    }

    pub(crate) fn runs(self) -> bool {
        self.stat().is_some_and(|stat| stat.state != 'Z')
    }

    #[track_caller]
    pub(crate) fn ends(self) {
        kernel::wait_until("the end of a child", || !self.runs());
    }

    /// Its parent, process group and state (proc_pid_stat(5)); `None` once it has been reaped.
    pub(crate) fn stat(self) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?)
    }

    /// Its arguments or variables, one per line.
    pub(crate) fn words(self, of: &str) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/{of}", self.0)).expect("the process runs");
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Its descriptors by number, with their targets. Descriptors that all our processes inherit
    /// from the parent of the tests are left out.
    pub(crate) fn descriptors(self) -> BTreeMap<u32, String> {
        let here = descriptors_of("self");
        let mut own = descriptors_of(&self.0.to_string());
        own.retain(|number, target| here.get(number) != Some(target) || !is_inherited(*number));
        own
    }

    /// The numbers of all its descriptors.
    pub(crate) fn descriptor_numbers(self) -> BTreeSet<u32> {
        descriptors_of(&self.0.to_string()).into_keys().collect()
    }
}

fn descriptors_of(process: &str) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("the process runs").flatten();
    let read = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        Some((number, target.to_string_lossy().into_owned()))
    };
    entries.filter_map(read).collect()
}

/// Whether processes started here inherit this descriptor of ours. An end of a pipe may have the
/// same number and name (proc_pid_fd(5)) as the other end in the process there.
fn is_inherited(number: u32) -> bool {
    let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else { return false };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
    let flags = u32::from_str_radix(flags.trim(), 8).expect("an octal number");
    flags & rustix::fs::OFlags::CLOEXEC.bits() == 0
}

/// The contents of `/proc/PID/stat`.
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) group: u32,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        let (_, fields) = text.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        Some(Stat {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    }
}

/// The children of a process that have not been reaped, including zombies, with their states.
pub(crate) fn children_of(parent: u32) -> Vec<(Process, char)> {
    let entries = fs::read_dir("/proc").expect("proc(5) is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let child = |pid| {
        let stat = Process(pid).stat().filter(|stat| stat.parent == parent)?;
        Some((Process(pid), stat.state))
    };
    pids.filter_map(child).collect()
}

/// Waits for a `child_exit` that reports that the child ended on its own.
#[track_caller]
pub(crate) fn exits_well(server: &Server, peer: SocketAddr) {
    let exit = server.event_about(peer, "child_exit");
    assert_eq!((exit.count("exit"), exit.text("level")), (0, "info"), "{exit:?}");
    assert!(!exit.has("signal"), "{exit:?}");
}
