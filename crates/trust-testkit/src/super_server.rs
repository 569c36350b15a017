//! A super-server in the test's own process: like inetd(8), it accepts connections and starts one
//! program per client, with the connection as standard input, output and error.

use std::fs;
use std::io::{self, PipeWriter};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use super::kernel;
use super::leftovers::{self, OwnedChild};
use super::program::{Launch, tail};

/// Accepts clients until it is dropped, which kills the programs too.
pub struct SuperServer {
    port: u16,
    log: PathBuf,
    shared: Arc<Shared>,
    /// Dropping it ends the thread.
    ends: Option<PipeWriter>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// No client is accepted while it is locked.
    gate: Mutex<Gate>,
    moved: Condvar,
    programs: Mutex<Programs>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Gate {
    #[default]
    Open,
    Closed,
    /// The super-server ends.
    Gone,
}

#[derive(Default)]
struct Programs {
    running: Vec<OwnedChild>,
    ended: Vec<ExitStatus>,
}

impl SuperServer {
    /// Listens on all addresses of the calling thread's network; `launch` starts the program for a
    /// client, and `log` is the file that it logs to.
    #[track_caller]
    pub fn start(log: PathBuf, launch: impl Fn() -> Launch + Send + 'static) -> SuperServer {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("listen on any port");
        let port = listener.local_addr().expect("its address").port();
        let (end, ends) = io::pipe().expect("make a pipe");
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            while is_ready(&listener, &end) && own.passes_the_gate() {
                own.accept(&listener, &launch);
            }
        });
        SuperServer { port, log, shared, ends: Some(ends), accepting: Some(accepting) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The programs that are still running.
    pub fn processes(&self) -> Vec<u32> {
        let programs = self.shared.programs();
        programs.running.iter().map(|child| child.pid().as_raw_pid().unsigned_abs()).collect()
    }

    /// Sends a signal to every program that runs.
    pub fn signal(&self, signal: Signal) {
        for program in &self.shared.programs().running {
            program.signal(signal);
        }
    }

    /// Leaves clients waiting in the backlog from now on.
    pub fn stops_accepting(&self) {
        *lock(&self.shared.gate) = Gate::Closed;
    }

    /// Accepts again.
    pub fn goes_on(&self) {
        *lock(&self.shared.gate) = Gate::Open;
        self.shared.moved.notify_all();
    }

    /// Stops accepting and waits for the end of all programs; returns how each of them ended.
    #[track_caller]
    pub fn wait(&self) -> Vec<ExitStatus> {
        self.stops_accepting();
        kernel::wait_until("the end of every program", || self.processes().is_empty());
        self.shared.programs().ended.clone()
    }
}

impl Drop for SuperServer {
    fn drop(&mut self) {
        *lock(&self.shared.gate) = Gate::Gone;
        self.shared.moved.notify_all();
        drop(self.ends.take());
        if let Some(accepting) = self.accepting.take() {
            // The message of its panic was recorded.
            drop(accepting.join());
        }
        if thread::panicking() {
            let log = fs::read(&self.log).unwrap_or_default();
            leftovers::add_evidence(format!(
                "of the programs' log: {}",
                tail(&String::from_utf8_lossy(&log))
            ));
        }
    }
}

impl Shared {
    /// Waits while the super-server pauses; false if it ends.
    fn passes_the_gate(&self) -> bool {
        let mut gate = lock(&self.gate);
        while *gate == Gate::Closed {
            gate = self.moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        *gate == Gate::Open
    }

    /// Accepts one client and starts its program, unless the gate was closed meanwhile.
    fn accept(&self, listener: &TcpListener, launch: &impl Fn() -> Launch) {
        let gate = lock(&self.gate);
        if *gate != Gate::Open {
            return;
        }
        let (connection, _) = listener.accept().expect("a client is waiting");
        // Locked first, so that no list of the programs misses this one once it has answered.
        let mut programs = self.programs();
        programs.running.push(launch().start_over(connection.into()));
    }

    /// The programs, with those that have ended reaped.
    fn programs(&self) -> MutexGuard<'_, Programs> {
        let mut programs = lock(&self.programs);
        let Programs { running, ended } = &mut *programs;
        running.retain(|program| match program.wait(Duration::ZERO) {
            Some(status) => {
                ended.push(status);
                false
            }
            None => true,
        });
        programs
    }
}

/// Waits for a client; false at the end.
fn is_ready(listener: &TcpListener, end: &impl AsFd) -> bool {
    let mut waiting = [PollFd::new(listener, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut waiting, None)).expect("poll a socket and a pipe");
    waiting[1].revents().is_empty()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
