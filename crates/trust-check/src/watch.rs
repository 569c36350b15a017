//! Watches the server's processes from outside.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use trust_cli::process::{Computed, Process};
use trust_cli::signals::{Signals, Stopped};
use trust_cli::target::Family;
use trust_cli::tcp_table::{SocketState, inodes_of_port};
use trust_cli::text::reason;
use trust_cli::{unix_table, zone};
use trust_net::Address;

use crate::server_command::{Started, StoppedServer, cannot_start};
use crate::setup::Setup;
use crate::transcript::Transcript;
use crate::verdict::{Judged, Verdict};
use crate::wire::{self, Wire};

/// Longest time that a server may take to clean up after a group of cases, unless the run's
/// patience is shorter.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Interval between checks whether it has.
const SETTLE_LOOK: Duration = Duration::from_millis(25);

/// Consecutive samples that must agree before the first cases; later ones are compared with them.
const STEADY_LOOKS: u32 = 4;

/// Time over which the CPU use of the idle server is measured: many turns of the kernel's
/// scheduler.
const IDLE_WINDOW: Duration = Duration::from_millis(250);

/// How often it is measured before the server counts as busy: it may still have work left from the
/// cases.
const IDLE_WINDOWS: u32 = 4;

/// Share of a core above which a server without work is not idle. One that looks for work every
/// millisecond stays below it.
pub const IDLE_SHARE_MAX: f64 = 0.15;

/// Least share of the window that the CPU time of a thread is divided by, however briefly it had a
/// core: what happens in less time is chance.
const HAD_CORE_MIN: f64 = 0.1;

/// How long the end of a process may take to show after its sockets have closed.
const END_PATIENCE: Duration = Duration::from_millis(100);

/// The server's processes: one, its children and theirs; and those of the server that replaces it
/// if it dies.
#[derive(Debug)]
pub struct Watch {
    watched: RwLock<Arc<Watched>>,
    state: Mutex<Observed>,
}

/// A server that is watched.
#[derive(Debug)]
struct Watched {
    pid: u32,
    address: Address,
    /// What started it, if that was the check.
    started: Option<Started>,
    /// The processes whose end matters.
    mortal: Mutex<Arc<Mortal>>,
    misfit: Option<String>,
}

/// The processes whose end matters: the one that was named, and those that listened at the start.
#[derive(Debug)]
struct Mortal {
    processes: Vec<(u32, OwnedFd)>,
    /// How many listened.
    listened: usize,
}

#[derive(Debug, Default)]
struct Observed {
    idle_at_start: Option<f64>,
    looks: Vec<Look>,
    end: Option<String>,
    deaths: Vec<Death>,
    exercised: bool,
}

/// One end of the server that it should not have come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Death {
    /// The cases that ran when it ended.
    pub during: String,
    /// How it ended, and what it said.
    pub how: String,
}

/// What the server had when it was left alone after a group of cases.
#[derive(Clone, Debug)]
pub struct Look {
    /// After which group.
    pub group: String,
    /// Connections that the run had made by then.
    pub connections: u64,
    /// The most connections that it had open at the same time by then.
    pub peak: u64,
    /// What the processes had.
    pub had: ProcessSample,
    /// Share of a core that was computed with no client there; `None` if the kernel does not tell.
    pub idle_share: Option<f64>,
    /// Processes that listened at the start and are gone.
    pub lost: Vec<u32>,
}

/// What the processes have at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// Descriptors of sockets.
    pub sockets: u64,
    /// Descriptors of pipes.
    pub pipes: u64,
    /// Descriptors of files and of everything else.
    pub files: u64,
    /// Memory in RAM, in bytes.
    pub resident: u64,
    /// Connections whose client has closed and which the server has not closed.
    pub close_wait: u64,
    /// Children that have ended and were not waited for.
    pub zombies: u64,
    /// Threads.
    pub threads: u64,
}

impl ProcessSample {
    /// All descriptors.
    pub fn descriptors(&self) -> u64 {
        self.sockets + self.pipes + self.files
    }
}

impl Watch {
    /// Looks at this process, which listens there, from now on.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn of_process(pid: u32, address: &Address) -> io::Result<Watch> {
        Watch::new(pid, address, None)
    }

    /// Watches a server that was started here and listens at this address, and keeps it until this
    /// is dropped.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn of_started(started: Started, address: &Address) -> io::Result<Watch> {
        Watch::new(started.pid(), address, Some(started))
    }

    fn new(pid: u32, address: &Address, started: Option<Started>) -> io::Result<Watch> {
        let watched = RwLock::new(Arc::new(Watched::new(pid, address, started)?));
        Ok(Watch { watched, state: Mutex::default() })
    }

    fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts the server that was started here, and died, again; where it is.
    ///
    /// # Errors
    ///
    /// It does not start, or a signal came. None of that if it was not started here.
    pub fn start_again(
        &self,
        setup: &Setup,
        signals: &Signals,
        tell: &mut dyn FnMut(&str),
    ) -> Option<Result<Address, Stopped>> {
        let family = setup.address.ip().as_ref().map_or(Family::Any, Family::of_address);
        let again = self.watched().started.as_ref()?.again();
        let failed = |error: io::Error| Stopped::from(cannot_start(&error));
        Some(again.map_err(failed).and_then(|started| {
            let address =
                started.wait_until_it_accepts(family, setup.preface.as_ref(), signals, tell)?;
            let watched = Watched::new(started.pid(), &address, Some(started));
            let watched = Arc::new(watched.map_err(failed)?);
            *self.watched.write().unwrap_or_else(PoisonError::into_inner) = watched;
            let mut state = self.lock();
            // What it has is compared with what it had itself.
            state.looks.clear();
            state.end = None;
            Ok(address)
        }))
    }

    /// Stops a server that was started here; `None`: it was not.
    pub fn stop(&self, signals: &Signals, tell: &mut dyn FnMut(&str)) -> Option<StoppedServer> {
        Some(self.watched().started.as_ref()?.stop_with(Some(signals), tell))
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.watched().pid
    }

    /// Why nothing can be said about the server by looking at this process, if so.
    pub fn misfit(&self) -> Option<String> {
        self.watched().misfit.clone()
    }

    /// Memory in RAM of all processes, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.sample().resident
    }

    /// Whether one of its threads runs, or waits for a core: it is not done with what it was sent.
    pub fn is_computing(&self) -> bool {
        Process::tree(self.pid()).iter().any(Process::is_computing)
    }

    /// Memory that all processes have asked for to write to, whether it is in RAM or not, in bytes.
    pub fn data_bytes(&self) -> u64 {
        let pages = Process::tree(self.pid()).iter().filter_map(Process::data_pages).sum::<u64>();
        pages * rustix::param::page_size() as u64
    }

    /// Notes how much it computes before the first client.
    pub fn look_at_start(&self, setup: &Setup) {
        if let Ok(share) = self.idle_share(setup) {
            self.lock().idle_at_start = share;
        }
    }

    /// Takes those that listen now for those that listened at the start: a server may accept
    /// connections before all its processes have started.
    pub fn look_who_listens(&self) {
        self.watched().look_who_listens();
    }

    /// Share of a core that it used before the first client; `None` if the kernel does not report
    /// it.
    pub fn idle_at_start(&self) -> Option<f64> {
        self.lock().idle_at_start
    }

    /// Leaves the server alone for a bounded time until it has cleaned up, and notes what it has
    /// then.
    pub fn look(&self, group: &str, setup: &Setup) {
        let last = self.lock().looks.last().map(|look| look.had.clone());
        self.look_for(last, group, setup);
    }

    /// The same, until it has what it had at the first look.
    pub fn look_last(&self, group: &str, setup: &Setup) {
        let first = self.lock().looks.first().map(|look| look.had.clone());
        self.look_for(first, group, setup);
    }

    fn look_for(&self, wanted: Option<ProcessSample>, group: &str, setup: &Setup) {
        let watched = self.watched();
        if watched.misfit.is_some() || self.has_ended(Duration::ZERO) {
            return;
        }
        let settled = match &wanted {
            None => self.settle_first(setup),
            Some(wanted) => self.settle(setup, wanted),
        };
        let (Some(had), Ok(idle_share)) = (settled, self.idle_share(setup)) else { return };
        // A server that ended meanwhile had nothing left.
        if self.has_ended(Duration::ZERO) {
            return;
        }
        let mortal = watched.mortal();
        let ended = mortal.processes.iter().filter(|(_, process)| is_over(process, Duration::ZERO));
        let lost = ended.map(|(pid, _)| *pid).filter(|pid| *pid != watched.pid).collect();
        let (connections, peak) = (setup.rate.connections(), setup.rate.peak());
        let look = Look { group: group.to_owned(), connections, peak, had, idle_share, lost };
        self.lock().looks.push(look);
    }

    /// Whether as many processes listen as did at the start: others came in the place of those that
    /// are gone.
    pub fn has_replaced_them(&self) -> bool {
        let watched = self.watched();
        let now = listeners(watched.pid, &watched.address).map_or(0, |listeners| listeners.len());
        now >= watched.mortal().listened
    }

    /// All looks so far; the first one was before the cases.
    pub fn looks(&self) -> Vec<Look> {
        self.lock().looks.clone()
    }

    /// True the first time.
    pub fn is_to_be_exercised(&self) -> bool {
        !std::mem::replace(&mut self.lock().exercised, true)
    }

    /// Notes that the server ended while these cases ran, if it has ended or does within a moment.
    /// Reports it only once.
    pub fn note_end(&self, is_suspicious: bool, cases: &[&str]) -> Option<Death> {
        let patience = if is_suspicious { END_PATIENCE } else { Duration::ZERO };
        let mut state = self.lock();
        if state.end.is_some() || !self.has_ended(patience) {
            return None;
        }
        let death = Death { during: cases.join(", "), how: self.watched().how_it_ended() };
        state.deaths.push(death.clone());
        state.end = Some(death.during.clone());
        Some(death)
    }

    /// Whether the check started it.
    pub fn is_ours(&self) -> bool {
        self.watched().started.is_some()
    }

    /// The cases during which the server ended, if it has.
    pub fn end(&self) -> Option<String> {
        self.lock().end.clone()
    }

    /// All ends of servers so far.
    pub fn deaths(&self) -> Vec<Death> {
        self.lock().deaths.clone()
    }

    /// Whether the server is gone.
    fn has_ended(&self, patience: Duration) -> bool {
        self.watched().has_ended(patience)
    }

    /// What it has once that has stopped changing.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn settled(&self, setup: &Setup) -> Judged<ProcessSample> {
        self.settle_first(setup).ok_or_else(stopped)
    }

    /// Waits, for a bounded time, until it has no more than that.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn await_return(&self, setup: &Setup, wanted: &ProcessSample) -> Judged<()> {
        self.settle(setup, wanted).map(drop).ok_or_else(stopped)
    }

    fn sample(&self) -> ProcessSample {
        let watched = self.watched();
        let tree = Process::tree(watched.pid);
        let close_wait = match &watched.address {
            Address::Ip(ip) => inodes_of_port(watched.pid, ip.port(), SocketState::CloseWait),
            Address::Unix(_) => HashSet::new(),
        };
        let mut sample =
            ProcessSample { zombies: zombies(&tree, watched.pid), ..ProcessSample::default() };
        let mut held = HashSet::new();
        for process in &tree {
            if process.is_zombie {
                continue;
            }
            if let Ok(descriptors) = process.descriptors() {
                sample.sockets += descriptors.sockets.len() as u64;
                sample.pipes += descriptors.pipes;
                sample.files += descriptors.others;
                held.extend(descriptors.sockets);
            }
            sample.resident += process.resident_pages * rustix::param::page_size() as u64;
            sample.threads += process.threads;
        }
        sample.close_wait = close_wait.intersection(&held).count() as u64;
        sample
    }

    /// What it has once that has stopped changing; `None` if the run is to end.
    fn settle_first(&self, setup: &Setup) -> Option<ProcessSample> {
        let until = Instant::now() + SETTLE_MAX.min(setup.patience);
        let has = |sample: &ProcessSample| (sample.descriptors(), sample.threads, sample.zombies);
        let (mut sample, mut same) = (self.sample(), 0);
        while same < STEADY_LOOKS && Instant::now() < until {
            wire::pause(setup, SETTLE_LOOK).ok()?;
            let next = self.sample();
            same = if has(&next) == has(&sample) { same + 1 } else { 0 };
            sample = next;
        }
        Some(sample)
    }

    /// What it has once it is back at `wanted`, or the time is over; `None` if the run is to end.
    fn settle(&self, setup: &Setup, wanted: &ProcessSample) -> Option<ProcessSample> {
        let is_back = |sample: &ProcessSample| {
            sample.descriptors() <= wanted.descriptors()
                && sample.close_wait <= wanted.close_wait
                && sample.zombies <= wanted.zombies
        };
        let until = Instant::now() + SETTLE_MAX.min(setup.patience);
        let mut sample = self.sample();
        while !is_back(&sample) && Instant::now() < until {
            if sample.zombies > wanted.zombies {
                // Some wait for their children whenever the next client comes.
                let _ = greet(setup);
            }
            wire::pause(setup, SETTLE_LOOK).ok()?;
            sample = self.sample();
        }
        Some(sample)
    }

    /// The share of a core that it uses without any work to do, in the calmest of several windows.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn idle_share(&self, setup: &Setup) -> Judged<Option<f64>> {
        let mut least: Option<f64> = None;
        for _ in 0..IDLE_WINDOWS {
            let (before, began) = (self.computed(), Instant::now());
            wire::pause(setup, IDLE_WINDOW)?;
            let share = share(&before, &self.computed(), began.elapsed());
            least = least.map_or(share, |least| share.map(|share| share.min(least)));
            if least.is_none_or(|least| least <= IDLE_SHARE_MAX) {
                break;
            }
        }
        Ok(least)
    }

    fn computed(&self) -> HashMap<u32, Computed> {
        Process::tree(self.pid()).iter().flat_map(Process::computed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new(pid: u32, address: &Address, started: Option<Started>) -> io::Result<Watched> {
        let listeners = listeners(pid, address);
        let mortal = Mutex::new(Arc::new(Mortal::new(pid, listeners.as_deref().unwrap_or(&[]))?));
        let misfit = match listeners {
            Ok(listeners) if listeners.is_empty() => Some(format!(
                "process {pid} and its children do not listen on {}, so another process is the \
                 server",
                match address {
                    Address::Ip(ip) => format!("port {}", ip.port()),
                    Address::Unix(_) => zone::shown_address(address),
                }
            )),
            Ok(_) => None,
            Err(error) => {
                Some(format!("the descriptors of process {pid} cannot be read: {}", reason(&error)))
            }
        };
        Ok(Watched { pid, address: address.clone(), started, mortal, misfit })
    }

    fn mortal(&self) -> Arc<Mortal> {
        Arc::clone(&self.mortal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes those that listen now for those that listened at the start.
    fn look_who_listens(&self) {
        let now = listeners(self.pid, &self.address).ok().filter(|now| !now.is_empty());
        if let Some(mortal) = now.and_then(|now| Mortal::new(self.pid, &now).ok()) {
            *self.mortal.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(mortal);
        }
    }

    /// How it ended, as far as known, and what it wrote.
    fn how_it_ended(&self) -> String {
        let Some(started) = &self.started else {
            return format!("process {} is gone", self.pid);
        };
        let status = started.ended().unwrap_or_else(|| "its listening process is gone".to_owned());
        status + &started.last_words()
    }

    /// Whether the server is gone: its process, or whatever listened there.
    fn has_ended(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mortal = self.mortal();
        let [(_, root), others @ ..] = &mortal.processes[..] else { return false };
        let suspicious =
            is_over(root, patience) || others.iter().any(|(_, fd)| is_over(fd, Duration::ZERO));
        if !suspicious {
            return false;
        }
        if self.started.is_none() && is_over(root, Duration::ZERO) {
            return true;
        }
        // Of several processes that listen, one may go, and a shell may have left its job alone.
        loop {
            match listeners(self.pid, &self.address) {
                Ok(listeners) if listeners.is_empty() => return true,
                Ok(_) if Instant::now() >= until => return false,
                Ok(_) => std::thread::sleep(SETTLE_LOOK.min(patience)),
                Err(_) => return is_over(root, Duration::ZERO),
            }
        }
    }
}

impl Mortal {
    fn new(pid: u32, listeners: &[u32]) -> io::Result<Mortal> {
        let others = listeners.iter().filter(|listener| **listener != pid);
        let others = others.filter_map(|listener| Some((*listener, open(*listener).ok()?)));
        let processes = [(pid, open(pid)?)].into_iter().chain(others).collect();
        Ok(Mortal { processes, listened: listeners.len() })
    }
}

/// The share of a core used by the threads that were there all the time. Time in which they had no
/// core does not count: on a busy machine a server that never sleeps does not compute much either.
fn share(
    before: &HashMap<u32, Computed>,
    after: &HashMap<u32, Computed>,
    elapsed: Duration,
) -> Option<f64> {
    let elapsed = elapsed.as_nanos() as f64;
    let shares = after.iter().filter_map(|(thread, after)| {
        let before = before.get(thread)?;
        let ran = after.ran.saturating_sub(before.ran) as f64;
        let waited = after.waited.saturating_sub(before.waited) as f64;
        Some(ran / (elapsed - waited).max(HAD_CORE_MIN * elapsed))
    });
    (!after.is_empty()).then(|| shares.sum())
}

/// Children that their parent, one of these processes, has not waited for. The check itself waits
/// for the one it started, and init for those whose parent has gone (as with ncat's children).
fn zombies(tree: &[Process], root: u32) -> u64 {
    let is_here = |pid: u32| tree.iter().any(|process| process.pid == pid);
    let left = |process: &&Process| process.is_zombie && process.pid != root;
    tree.iter().filter(left).filter(|process| is_here(process.parent)).count() as u64
}

fn stopped() -> Verdict {
    Verdict::skipped("the run was stopped")
}

/// One client with one message.
fn greet(setup: &Setup) -> Judged<()> {
    let hello = setup.hello();
    let mut wire = Wire::connect(setup, 1, &Transcript::default())?;
    wire.exchange_beginning()?;
    wire.send(&hello.bytes)?;
    wire.expect_answers(&[&hello])
}

/// The living processes of the tree that hold a socket which listens there.
///
/// # Errors
///
/// No permission to look.
fn listeners(root: u32, address: &Address) -> io::Result<Vec<u32>> {
    let tree = Process::tree(root);
    let living = || tree.iter().filter(|process| !process.is_zombie);
    let Some(any) = living().next() else { return Ok(vec![]) };
    let listening = match address {
        Address::Ip(ip) => inodes_of_port(any.pid, ip.port(), SocketState::Listening),
        Address::Unix(name) => unix_table::listening_inodes(any.pid, name),
    };
    let mut found = vec![];
    for process in living() {
        if !process.descriptors()?.sockets.is_disjoint(&listening) {
            found.push(process.pid);
        }
    }
    Ok(found)
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let no_such = || io::Error::from(rustix::io::Errno::SRCH);
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(no_such)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether the process has ended, or does so in time (pidfd_open(2)).
fn is_over(process: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut polled, timeout.as_ref()), Ok(1))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_process_that_does_not_listen_on_the_port_is_not_taken_for_the_server() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let own = std::process::id();
        assert_eq!(Watch::of_process(own, &address).unwrap().misfit(), None);
        drop(listener);
        let misfit = Watch::of_process(own, &address).unwrap();
        assert!(misfit.misfit().is_some_and(|why| why.contains("do not listen on port")));
        assert!(Watch::of_process(u32::MAX, &address).is_err());
    }

    #[test]
    fn only_children_whose_parent_is_watched_are_zombies_of_the_server() {
        let process = |pid, parent, is_zombie| Process {
            pid,
            parent,
            group: 10,
            is_zombie,
            threads: 1,
            resident_pages: 0,
        };
        let tree = [process(10, 2, true), process(11, 10, false), process(12, 1, true)];
        assert_eq!(zombies(&tree, 10), 0);
        let tree = [process(10, 2, false), process(11, 10, true), process(12, 1, true)];
        assert_eq!(zombies(&tree, 10), 1);
    }

    #[test]
    fn a_thread_that_never_sleeps_is_seen_on_a_busy_machine_too() {
        let times = |ran, waited| HashMap::from([(1, Computed { ran, waited })]);
        let second = Duration::from_secs(1);
        let share_of =
            |ran: u64, waited: u64| share(&times(5, 5), &times(5 + ran, 5 + waited), second);
        let is_about = |share: Option<f64>, expected: f64| (share.unwrap() - expected).abs() < 1e-6;
        assert!(is_about(share_of(1_000_000_000, 0), 1.0));
        assert!(is_about(share_of(200_000_000, 800_000_000), 1.0));
        assert!(is_about(share_of(10_000_000, 0), 0.01));
        // It waited nearly all the time for a core, for a little work.
        assert!(is_about(share_of(1_000_000, 990_000_000), 0.01));
        assert_eq!(share(&times(1, 1), &HashMap::new(), second), None);
        assert_eq!(share(&HashMap::new(), &times(1, 1), second), Some(0.0));
        let own = Process::read(std::process::id()).unwrap();
        assert!(own.computed().values().any(|computed| computed.ran > 0));
    }
}
