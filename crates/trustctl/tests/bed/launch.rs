//! How the servers are started and ended, each with a directory and a port of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use trust_testkit::leftovers::{self, OwnedChild, OwnedDir};
use trust_testkit::{STEP_DEADLINE, program, runner};

use super::servers::{BedServer, PortChoice, Probe, SERVERS};

/// How many free ports to try, as another process may take one meanwhile.
const PORTS: u32 = 5;

/// How long a server has to listen and answer: a database sets itself up first.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long one answer may take while a server starts.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// Pause between two attempts.
const LOOK: Duration = Duration::from_millis(10);

/// How long a server has to end by itself.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// The file in a server's directory that has what it printed.
const LOG: &str = "log.txt";

/// How much of it is shown with a failure, in bytes.
const LOG_SHOWN: usize = 4_096;

/// A running server, ended and reaped when dropped.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    /// The process that listens.
    pub(crate) pid: u32,
    child: OwnedChild,
    directory: OwnedDir,
}

impl Drop for Started {
    /// Lets it end by itself, as some leave processes or shared memory when they are killed.
    fn drop(&mut self) {
        if self.child.with(|child| child.try_wait().is_ok_and(|status| status.is_none())) {
            // PostgreSQL waits for its clients after the first.
            self.child.signal(Signal::TERM);
            self.child.signal(Signal::INT);
            self.child.wait(END_DEADLINE);
        }
        if std::thread::panicking() {
            add_log(&self.directory);
        }
    }
}

/// Starts a server; returns when it has answered.
///
/// # Panics
///
/// If it does not answer.
#[track_caller]
pub(crate) fn start(server: &BedServer) -> Started {
    start_towards(server, 0)
}

/// The same of one that passes on what it gets to a server on that port.
///
/// # Panics
///
/// If it does not answer.
#[track_caller]
pub(crate) fn start_towards(server: &BedServer, upstream: u16) -> Started {
    need(server);
    for _ in 0..PORTS {
        let directory = OwnedDir::create();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|bound| bound.local_addr());
        let port = free.expect("a free port").port();
        let place = Place { directory: directory.path(), port, upstream };
        for name in server.files {
            let text = fs::read_to_string(Path::new(SERVERS).join(name)).expect("read a template");
            fs::write(directory.path().join(name), place.fill(&text)).expect("write a file");
        }
        for words in server.prepare {
            let done = place.command(words).output().expect("run a command");
            assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let log = File::create(directory.path().join(LOG)).expect("create the log");
        let mut command = place.command(server.command);
        command.stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        // It stays open: one of them ends with its input.
        let child = OwnedChild::spawn(command.stdin(Stdio::piped()));
        let pid = child.pid().as_raw_pid().unsigned_abs();
        let since = Instant::now();
        while since.elapsed() < START_DEADLINE && child.wait(LOOK).is_none() {
            let port = match server.port {
                PortChoice::Given => Some(place.port),
                PortChoice::Own => listening_port_of(pid),
            };
            let address = port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            if let Some(address) = address
                && answers(address, &server.probe)
            {
                return Started { address, pid, child, directory };
            }
        }
        add_log(&directory);
        if since.elapsed() >= START_DEADLINE {
            break;
        }
    }
    panic!("{} does not answer within {START_DEADLINE:?}", server.name);
}

/// The version of a server, as its own command prints it.
///
/// # Panics
///
/// If it prints none.
#[track_caller]
pub(crate) fn version_of(server: &BedServer) -> String {
    need(server);
    let (words, before) = server.version;
    let place = Place { directory: Path::new(SERVERS), port: 0, upstream: 0 };
    // Some exit with a failure although this was all they were asked.
    let output = place.command(words).output().expect("run a command");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let version = printed.split_once(before).map(|(_, after)| {
        let end = after.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(after.len());
        after[..end].trim_end_matches('.').to_owned()
    });
    version.filter(|version| !version.is_empty()).unwrap_or_else(|| {
        panic!("{words} prints no version after {before:?}, but {printed:?}");
    })
}

/// Skips the test if this machine lacks the server.
fn need(server: &BedServer) {
    if !bed().join("complete").exists() {
        runner::skip("what make bed downloads");
    }
    for words in server.prepare.iter().chain([&server.command]) {
        let name = words.split_whitespace().next().expect("a program");
        if find(name).is_none() {
            runner::skip(name);
        }
    }
}

/// Where `ci/bed` puts what it downloads.
pub(crate) fn bed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bed")
}

/// Where programs are looked for: ours, those of the bed, and those that are installed.
fn path() -> OsString {
    let ours = program::executable("trustctl").with_file_name("");
    let bed = bed();
    let unpacked = ["debian/usr/sbin", "debian/usr/bin", "debian/usr/lib/postgresql/15/bin"];
    let own = unpacked.iter().chain(&["python/bin", "modbus"]).map(|directory| bed.join(directory));
    let installed = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&installed).chain(["/usr/sbin".into()]);
    let all = [ours].into_iter().chain(own).chain(installed);
    std::env::join_paths(all).expect("paths without a colon")
}

/// Where the program of that name is.
fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|directory| directory.join(name)).find(|path| path.exists())
}

/// What a server is given.
struct Place<'a> {
    directory: &'a Path,
    port: u16,
    /// The port of the server that it passes on to.
    upstream: u16,
}

impl Place<'_> {
    /// A text with the marks replaced.
    fn fill(&self, text: &str) -> String {
        let texts = [
            ("@PORT@", self.port.to_string()),
            ("@SERVER@", self.upstream.to_string()),
            ("@DIRECTORY@", self.directory.display().to_string()),
            ("@BED@", bed().display().to_string()),
        ];
        texts.iter().fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value))
    }

    /// The command with these words, which runs in the directory as if the bed were installed.
    fn command(&self, words: &str) -> Command {
        let mut words = words.split_whitespace();
        let program = words.next().expect("a program");
        let mut command = Command::new(program);
        command.args(words.map(|word| self.fill(word)));
        command.current_dir(self.directory).stdin(Stdio::null());
        command.env("PATH", path()).env("TRUST_HOME", self.directory.join("home"));
        command.env("NODE_PATH", bed().join("node/node_modules"));
        // Python may be another than Debian's, whose library is there too.
        if find(program).is_some_and(|path| !path.starts_with(bed().join("python"))) {
            let libraries = format!("debian/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            command.env("LD_LIBRARY_PATH", bed().join(libraries));
        }
        command
    }
}

/// Whether a new connection gets the answer.
fn answers(address: SocketAddr, probe: &Probe) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, STEP_DEADLINE) else { return false };
    let since = Instant::now();
    let mut got = Vec::new();
    let mut piece = [0; 4_096];
    let mut is_read = stream.write_all(probe.send).is_ok();
    while is_read && since.elapsed() < ANSWER_DEADLINE {
        if got.windows(probe.want.len()).any(|part| part == probe.want) {
            return true;
        }
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).expect("set a timeout");
        let count = stream.read(&mut piece).unwrap_or(0);
        got.extend_from_slice(&piece[..count]);
        is_read = count > 0;
    }
    false
}

/// The port on which a process listens, if it has come to that (proc_pid_fd(5), proc_pid_net(5)).
fn listening_port_of(pid: u32) -> Option<u16> {
    const LISTEN: &str = "0A";
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let names: Vec<String> = links.map(|link| link.display().to_string()).collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().find_map(|line| {
        // Number, local address, remote address, state, …, inode.
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let is_its_own = *state == LISTEN && names.contains(&format!("socket:[{inode}]"));
        let (_, port) = local.split_once(':').filter(|_| is_its_own)?;
        u16::from_str_radix(port, 16).ok()
    })
}

fn add_log(directory: &OwnedDir) {
    let printed = fs::read(directory.path().join(LOG)).unwrap_or_default();
    let shown = &printed[printed.len().saturating_sub(LOG_SHOWN)..];
    leftovers::add_evidence(format!("it printed: {}", String::from_utf8_lossy(shown)));
}
