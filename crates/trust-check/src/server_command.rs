//! A server that the check starts itself, and stops.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal as Kill, kill_process_group};
use tempfile::TempDir;
use trust_cli::again::shell_word;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::process::Process;
use trust_cli::signals::{Signal, Signals, Stopped};
use trust_cli::target::Family;
use trust_cli::text::{reason, seconds};
use trust_cli::wait::wait_for;
use trust_cli::zone;
use trust_net::preface::ProxyPreface;
use trust_net::stream::ClientStream;
use trust_net::{Address, UnixName};

/// What stands in the command for where the server is to listen.
const PORT: &str = "{port}";
const SOCKET: &str = "{socket}";

/// How often it is tried whether it accepts by now.
const START_LOOK: Duration = Duration::from_millis(20);

/// Longest wait for one such try; an answer of this host takes no time.
const TRY_MAX: Duration = Duration::from_millis(500);

/// Longest wait for processes to be gone after SIGKILL, which none of them can put off.
const KILL_MAX: Duration = Duration::from_secs(3);

/// Interval between checks whether it has ended.
const STOP_LOOK: Duration = Duration::from_millis(10);

/// Bytes of its last words that are kept: what one error leaves, with a stack trace.
const STDERR_KEPT: usize = 2048;

/// Bytes that a pipe takes unless somebody asks for another size (pipe(7)).
const PIPE_BYTES: usize = 65_536;

/// Lines of them that a message shows.
const STDERR_LINES_SHOWN: usize = 6;

/// How long a server that is started gets.
#[derive(Clone, Copy, Debug)]
pub struct StartStopLimits {
    /// Until it accepts connections: `--start-timeout`.
    pub start: Duration,
    /// To end after SIGTERM, before it gets SIGKILL: `--stop-timeout`.
    pub stop: Duration,
}

/// How a server that was started here was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoppedServer {
    /// It had not ended in its time, and got SIGKILL.
    pub was_killed: bool,
    /// What ended the wait for it, and got it SIGKILL at once.
    pub signal: Option<Signal>,
}

/// A server that was started here. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Started {
    child: Mutex<Child>,
    command: OsString,
    limits: StartStopLimits,
    pid: u32,
    place: StartedPlace,
    stderr: Arc<Mutex<Stderr>>,
}

/// Where a server that is started is to listen.
#[derive(Debug)]
enum StartedPlace {
    /// On this port of this host.
    Port(u16),
    /// On a unix socket in a directory of its own, which is removed when this is dropped.
    Socket(TempDir),
}

impl StartedPlace {
    /// A free one of the kind that the command names.
    fn free(command: &OsStr) -> io::Result<StartedPlace> {
        if has(command, SOCKET) {
            let directory = tempfile::Builder::new().prefix("trustctl-check-").tempdir()?;
            return Ok(StartedPlace::Socket(directory));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(StartedPlace::Port(listener.local_addr()?.port()))
    }

    /// The command with that place in it.
    fn fill_in(&self, command: &OsStr) -> OsString {
        match self {
            StartedPlace::Port(port) => replaced(command, PORT, port.to_string().as_ref()),
            StartedPlace::Socket(directory) => {
                replaced(command, SOCKET, shell_word(socket_in(directory)).as_ref())
            }
        }
    }

    /// The addresses that this may be.
    fn addresses(&self, family: Family) -> Vec<Address> {
        match self {
            StartedPlace::Port(port) => {
                let addresses =
                    [(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()];
                let fitting = addresses.into_iter().filter(|address| family.has(address));
                fitting.map(Address::Ip).collect()
            }
            StartedPlace::Socket(directory) => {
                vec![Address::Unix(UnixName::Path(socket_in(directory)))]
            }
        }
    }
}

impl fmt::Display for StartedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartedPlace::Port(port) => write!(f, "port {port}"),
            StartedPlace::Socket(directory) => f.write_str(&zone::shown_address(&Address::Unix(
                UnixName::Path(socket_in(directory)),
            ))),
        }
    }
}

/// Short, as the names of unix sockets have to be.
fn socket_in(directory: &TempDir) -> PathBuf {
    directory.path().join("sock")
}

impl Started {
    /// Starts the command, in which `{port}` stands for a free port or `{socket}` for the path of a
    /// unix socket, through `sh -c` and in a process group of its own.
    ///
    /// # Errors
    ///
    /// There is no free port or no directory for a socket, or no shell.
    pub fn start(command: &OsStr, limits: StartStopLimits) -> io::Result<Started> {
        let place = StartedPlace::free(command)?;
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(place.fill_in(command))
            .stdin(Stdio::null())
            // Ours is for the report.
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pipe = child.stderr.take().expect("it is a pipe");
        let waiting = pipe.as_fd().try_clone_to_owned()?;
        let stderr = Arc::new(Mutex::new(Stderr::new(pipe)?));
        let shared = Arc::clone(&stderr);
        // It ends with the last process that has the other end, which may be after us.
        let read_on = move || while is_open(&waiting) && lock(&shared).take_all() {};
        thread::Builder::new().name("stderr".into()).spawn(read_on)?;
        let (command, pid) = (command.to_owned(), child.id());
        Ok(Started { command, limits, pid, child: Mutex::new(child), place, stderr })
    }

    /// Stops what may be left of it and starts the same command at another address: connections
    /// that have just ended may still hold the port.
    ///
    /// # Errors
    ///
    /// As [`Started::start`].
    pub fn again(&self) -> io::Result<Started> {
        self.stop();
        Started::start(&self.command, self.limits)
    }

    /// Waits until it accepts connections, each of which starts with the preface, and returns the
    /// address. Calls `tell` every second with what it is waiting for.
    ///
    /// # Errors
    ///
    /// 69 if it ended or takes too long, with what it wrote to stderr; or a signal that came.
    pub fn wait_until_it_accepts(
        &self,
        family: Family,
        preface: Option<&ProxyPreface>,
        signals: &Signals,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Address, Stopped> {
        let addresses = self.place.addresses(family);
        let what = format!("waiting for the server to accept connections on {}", self.place);
        let mut wait = ToldWait::begin(what, self.limits.start);
        loop {
            for address in &addresses {
                if accepts(address, preface, signals)? {
                    return Ok(address.clone());
                }
            }
            if let Some(status) = self.ended().filter(|_| self.is_empty()) {
                let what = format!("the server ended before it accepted connections: {status}");
                return Err(unavailable(what + &self.last_words()).into());
            }
            if wait.is_over(tell) {
                let (place, time) = (&self.place, seconds(self.limits.start));
                let what = format!(
                    "the server accepts no connections on {place} after {time} (--start-timeout)"
                );
                return Err(unavailable(what + &self.last_words()).into());
            }
            if let Some(signal) = signals.wait(Some(START_LOOK)) {
                return Err(Stopped::Signal(signal));
            }
        }
    }

    /// The number of the shell, which leads the group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How the shell ended, in words, if it has.
    pub fn ended(&self) -> Option<String> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().ok().flatten().map(ending)
    }

    /// The last lines that the server has written to stderr so far, worded as the end of a message.
    pub fn last_words(&self) -> String {
        let mut stderr = lock(&self.stderr);
        stderr.take_all();
        let text = String::from_utf8_lossy(stderr.kept.make_contiguous());
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let shown = &lines[lines.len().saturating_sub(STDERR_LINES_SHOWN)..];
        let shown: String = shown.join(" / ").chars().filter(|c| !c.is_control()).collect();
        match shown.is_empty() {
            true => "; it wrote nothing to stderr".to_owned(),
            false => format!("; its stderr: {shown}"),
        }
    }

    /// Stops all of its processes: SIGTERM, and SIGKILL to what is left after a bounded time.
    pub fn stop(&self) {
        self.stop_with(None, &mut |_| ());
    }

    /// The same; a signal ends the wait. Calls `tell` every second with what it waits for.
    pub fn stop_with(
        &self,
        signals: Option<&Signals>,
        tell: &mut dyn FnMut(&str),
    ) -> StoppedServer {
        let mut stopped = StoppedServer::default();
        let what = "waiting for the server to end after SIGTERM".to_owned();
        stopped.signal =
            self.end_by(Kill::TERM, signals, ToldWait::begin(what, self.limits.stop), tell);
        stopped.was_killed = !self.is_empty();
        if stopped.was_killed {
            self.end_by(Kill::KILL, None, ToldWait::begin(String::new(), KILL_MAX), &mut |_| ());
        }
        let _ = self.ended();
        stopped
    }

    /// Sends the signal to all of its processes, and waits for their end, or for one that comes.
    fn end_by(
        &self,
        kill: Kill,
        signals: Option<&Signals>,
        mut wait: ToldWait,
        tell: &mut dyn FnMut(&str),
    ) -> Option<Signal> {
        if self.is_empty() {
            return None;
        }
        if let Some(group) = Pid::from_raw(self.pid as i32) {
            // Fails only if the last one has ended just now.
            let _ = kill_process_group(group, kill);
        }
        while !self.is_empty() && !wait.is_over(tell) {
            match signals {
                Some(signals) => {
                    let signal = signals.wait(Some(STOP_LOOK));
                    if signal.is_some() {
                        return signal;
                    }
                }
                None => thread::sleep(STOP_LOOK),
            }
        }
        None
    }

    /// Whether none of its processes is alive.
    fn is_empty(&self) -> bool {
        let _ = self.ended();
        Process::tree(self.pid).iter().all(|process| process.is_zombie || process.group != self.pid)
    }
}

/// A wait of bounded length, of which is told every second.
struct ToldWait {
    what: String,
    limit: Duration,
    begun: Instant,
    /// Seconds that were told last.
    told: u64,
}

impl ToldWait {
    fn begin(what: String, limit: Duration) -> ToldWait {
        ToldWait { what, limit, begun: Instant::now(), told: 0 }
    }

    /// Whether it has been long enough.
    fn is_over(&mut self, tell: &mut dyn FnMut(&str)) -> bool {
        let waited = self.begun.elapsed();
        if waited.as_secs() > self.told {
            self.told = waited.as_secs();
            tell(&format!("{}: {} s of {}", self.what, self.told, seconds(self.limit)));
        }
        waited >= self.limit
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether the command has exactly one kind of place to listen on: `{port}` or `{socket}`.
pub fn has_place(command: &OsStr) -> bool {
    has(command, PORT) != has(command, SOCKET)
}

/// Whether the command starts a server that listens on a unix socket.
pub fn has_socket(command: &OsStr) -> bool {
    has(command, SOCKET)
}

fn has(command: &OsStr, word: &str) -> bool {
    place_of(command.as_bytes(), word).is_some()
}

fn place_of(command: &[u8], word: &str) -> Option<usize> {
    command.windows(word.len()).position(|part| part == word.as_bytes())
}

/// The command with `by` in every place for the word.
fn replaced(command: &OsStr, word: &str, by: &OsStr) -> OsString {
    let (mut made, mut rest) = (vec![], command.as_bytes());
    while let Some(at) = place_of(rest, word) {
        made.extend_from_slice(&rest[..at]);
        made.extend_from_slice(by.as_bytes());
        rest = &rest[at + word.len()..];
    }
    made.extend_from_slice(rest);
    OsString::from_vec(made)
}

/// What a server writes to stderr. A thread drains the pipe, so that the server never waits for
/// room in it. A caller who wants the last lines first takes what the thread has not got to yet, so
/// that the output of a server that has ended is complete.
#[derive(Debug)]
struct Stderr {
    /// Nothing waits for it.
    pipe: ChildStderr,
    /// The last bytes that came.
    kept: VecDeque<u8>,
}

impl Stderr {
    fn new(pipe: ChildStderr) -> io::Result<Stderr> {
        let flags = rustix::fs::fcntl_getfl(&pipe)?;
        rustix::fs::fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
        Ok(Stderr { pipe, kept: VecDeque::new() })
    }

    /// Takes what is in the pipe, and a bounded part of what arrives meanwhile; returns whether
    /// more may come.
    fn take_all(&mut self) -> bool {
        let (mut buffer, mut taken) = ([0; STDERR_KEPT], 0);
        while taken < PIPE_BYTES {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    taken += count;
                    self.kept.extend(&buffer[..count]);
                    let surplus = self.kept.len().saturating_sub(STDERR_KEPT);
                    self.kept.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

fn lock(stderr: &Mutex<Stderr>) -> MutexGuard<'_, Stderr> {
    stderr.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until there is something in the pipe, or it has ended; `false` if that cannot be.
fn is_open(pipe: &OwnedFd) -> bool {
    let waiting = &mut [PollFd::new(pipe, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(waiting, None)).is_ok()
}

fn accepts(
    address: &Address,
    preface: Option<&ProxyPreface>,
    signals: &Signals,
) -> Result<bool, Stopped> {
    let Ok(mut stream) = ClientStream::begin_connecting(address, |_| ()) else { return Ok(false) };
    let until = Some(Instant::now() + TRY_MAX);
    let has_answer = wait_for(signals, stream.as_fd(), PollFlags::OUT, until)?;
    let is_connected = has_answer && stream.finish_connecting().is_ok();
    if let Some(preface) = preface.filter(|_| is_connected) {
        stream.send_preface(preface);
    }
    Ok(is_connected)
}

/// How a process ended, in words. A shell whose child was killed by a signal exits with 128 plus
/// its number.
fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => format!("ended by {}", signal_name(number)),
        (_, Some(code @ 129..=192)) => {
            format!("exit code {code}, as after {}", signal_name(code - 128))
        }
        (_, Some(0)) => {
            "exit code 0 (a server that goes into the background is to be given with --pid)"
                .to_owned()
        }
        (_, code) => format!("exit code {}", code.unwrap_or_default()),
    }
}

fn signal_name(number: i32) -> String {
    let names = [
        (Kill::PIPE, "SIGPIPE"),
        (Kill::SEGV, "SIGSEGV"),
        (Kill::ABORT, "SIGABRT"),
        (Kill::BUS, "SIGBUS"),
        (Kill::FPE, "SIGFPE"),
        (Kill::ILL, "SIGILL"),
        (Kill::KILL, "SIGKILL"),
        (Kill::TERM, "SIGTERM"),
        (Kill::INT, "SIGINT"),
    ];
    let name = names.iter().find(|(signal, _)| signal.as_raw() == number);
    name.map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned())
}

/// What [`Started::start`] failed with, for people.
pub fn cannot_start(error: &io::Error) -> Failure {
    unavailable(format!("cannot start the server: {}", reason(error)))
}

/// There is no server.
pub fn unavailable(why: String) -> Failure {
    Failure::new(ExitCode::Unavailable, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StartStopLimits =
        StartStopLimits { start: Duration::from_secs(10), stop: Duration::from_secs(3) };

    fn failed(command: &str) -> String {
        let started = Started::start(command.as_ref(), LIMITS).unwrap();
        match started.wait_until_it_accepts(Family::Any, None, &Signals::never(), &mut |_| ()) {
            Err(Stopped::Failed(failure)) => failure.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_last_words() {
        let why = failed("echo one >&2; echo two >&2; exit 3");
        let expected =
            "the server ended before it accepted connections: exit code 3; its stderr: one / two";
        assert_eq!(why, expected);
        assert!(failed("kill -PIPE $$").contains("ended by SIGPIPE; it wrote nothing"));
        assert!(
            failed("sh -c 'kill -SEGV $$'; exit $?").contains("exit code 139, as after SIGSEGV")
        );
        assert!(failed("/no/such/server {port}").contains("exit code 127; its stderr: "));
    }

    #[test]
    fn a_server_that_does_not_start_in_its_time_is_waited_for_in_words() {
        let limits = StartStopLimits { start: Duration::from_millis(1500), ..LIMITS };
        let started = Started::start("exec sleep 600".as_ref(), limits).unwrap();
        let (mut told, signals) = (vec![], Signals::never());
        let mut tell = |line: &str| told.push(line.to_owned());
        let waited = started.wait_until_it_accepts(Family::Any, None, &signals, &mut tell);
        let Err(Stopped::Failed(failure)) = waited else { panic!("{waited:?}") };
        let place = &started.place;
        assert!(place.to_string().starts_with("port "), "{place}");
        let why = "after 1.5 s (--start-timeout); it wrote nothing to stderr";
        let why = format!("the server accepts no connections on {place} {why}");
        assert_eq!(failure.message, why);
        let line = format!("waiting for the server to accept connections on {place}: 1 s of 1.5 s");
        assert_eq!(told, [line]);
    }

    #[test]
    fn a_server_that_does_not_end_in_its_time_is_waited_for_in_words_and_killed() {
        let limits = StartStopLimits { stop: Duration::from_millis(1500), ..LIMITS };
        let command = "trap '' TERM; sleep 600; sleep 600";
        let started = Started::start(command.as_ref(), limits).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while Process::tree(started.pid()).len() < 2 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let mut told = vec![];
        let stopped = started.stop_with(None, &mut |line| told.push(line.to_owned()));
        assert_eq!(stopped, StoppedServer { was_killed: true, signal: None });
        assert_eq!(told, ["waiting for the server to end after SIGTERM: 1 s of 1.5 s"]);
        assert!(started.is_empty());
        assert_eq!(started.stop_with(None, &mut |_| ()), StoppedServer::default());
    }

    #[test]
    fn the_port_takes_every_one_of_its_places_and_other_bytes_stay() {
        let command = OsStr::from_bytes(b"{port} \xff{port}{{port}} {por");
        let filled = StartedPlace::Port(70).fill_in(command);
        assert_eq!(filled.as_bytes(), b"70 \xff70{70} {por");
        assert!(has_place(command) && !has_place("{por".as_ref()));
    }

    #[test]
    fn a_socket_is_in_a_directory_of_its_own_that_goes_with_the_server() {
        let command = OsStr::new("test -d $(dirname {socket}) && exec sleep 600");
        assert!(has_place(command) && !has_place("{port} {socket}".as_ref()));
        let started = Started::start(command, LIMITS).unwrap();
        let [Address::Unix(UnixName::Path(path))] = &started.place.addresses(Family::Any)[..]
        else {
            panic!("{}", started.place);
        };
        let directory = path.parent().unwrap().to_owned();
        assert!(directory.is_dir() && !path.exists());
        assert_eq!(started.place.to_string(), format!("unix:{}", path.display()));
        assert_eq!(started.ended(), None);
        drop(started);
        assert!(!directory.exists());
    }

    #[test]
    fn all_processes_of_a_stopped_server_end_also_those_that_ignore_sigterm() {
        let command = "trap '' TERM; sleep 1000 & sleep 1000; sleep 1000";
        let started = Started::start(command.as_ref(), LIMITS).unwrap();
        let pid = started.pid();
        let until = Instant::now() + Duration::from_secs(10);
        while Process::tree(pid).len() < 3 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(Process::tree(pid).len(), 3, "{:?}", Process::tree(pid));
        drop(started);
        let alive = Process::tree(pid).into_iter().filter(|process| !process.is_zombie).count();
        assert_eq!(alive, 0);
    }

    #[test]
    fn what_a_server_wrote_before_it_ended_is_told_though_nobody_has_read_it_yet() {
        let mut shell = Command::new("/bin/sh");
        let shell = shell.args(["-c", "echo last words >&2"]).stderr(Stdio::piped()).spawn();
        let mut child = shell.unwrap();
        let stderr = Stderr::new(child.stderr.take().unwrap()).unwrap();
        child.wait().unwrap();
        // Without the thread that takes what comes.
        let stderr = Arc::new(Mutex::new(stderr));
        let (command, pid, place) = (OsString::new(), child.id(), StartedPlace::Port(0));
        let started =
            Started { command, limits: LIMITS, pid, child: Mutex::new(child), place, stderr };
        assert_eq!(started.last_words(), "; its stderr: last words");
    }

    #[test]
    fn of_a_long_stderr_the_end_is_kept() {
        let command = "yes 0123456789 | head -n 5000 >&2; echo end >&2";
        let started = Started::start(command.as_ref(), LIMITS).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !started.last_words().ends_with("0123456789 / end") && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(started.last_words().ends_with("0123456789 / end"), "{}", started.last_words());
        assert!(started.stderr.lock().unwrap().kept.len() <= STDERR_KEPT);
    }
}
