//! External tools that make faults, and whether they are there.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::kernel;
use super::leftovers::OwnedDir;
use super::runner;

/// Makes the first network namespace of a process that will live in it: `lo` is up, and send buffers
/// of its sockets have `$1` bytes.
const NARROW_NAMESPACE: &str = "ip link set lo up && \
     echo \"$1 $1 $1\" >/proc/sys/net/ipv4/tcp_wmem && shift && exec \"$@\"";

/// System calls of one server, watched by `strace` from outside: the server stays a direct child.
pub(crate) struct Trace {
    directory: OwnedDir,
}

impl Trace {
    /// Skips the test when `strace` is not there or may not trace.
    pub(crate) fn new() -> Trace {
        needs("strace", Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]));
        Trace { directory: OwnedDir::create() }
    }

    /// The command line to put before the server's: which calls to trace, and what to inject.
    pub(crate) fn wrapper(&self, calls: &str, injections: &[String]) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["strace", "-D", "-f", "-q", "-o"].map(Into::into).into();
        words.push(self.path().into());
        words.push("-e".into());
        words.push(format!("trace={calls}").into());
        for injection in injections {
            words.extend(["-e".into(), format!("inject={injection}").into()]);
        }
        words
    }

    /// All lines, once the process with that number has ended.
    #[track_caller]
    pub(crate) fn lines_after_end_of(&self, pid: u32) -> Vec<String> {
        let (from, mut text) = (format!("{pid} "), String::new());
        kernel::wait_until("the end of the trace", || {
            text = read(&self.path());
            let ended = |line: &str| line.starts_with(&from) && line.contains("+++ ");
            text.ends_with('\n') && text.lines().any(ended)
        });
        text.lines().map(str::to_owned).collect()
    }

    /// The whole lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = read(&self.path());
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("trace")
    }
}

/// The command line to put before the server's, so that it lives in a network namespace of its own,
/// which ends with it, and sends through buffers of that many bytes.
///
/// Skips the test when namespaces cannot be made.
pub(crate) fn narrow_namespace(send_buffer: usize) -> Vec<OsString> {
    needs("ip", Command::new("ip").arg("-V"));
    needs("root for network namespaces", Command::new("unshare").args(["--net", "true"]));
    let words = ["unshare", "--net", "sh", "-c", NARROW_NAMESPACE, "sh"];
    let mut words: Vec<OsString> = words.map(Into::into).into();
    words.push(send_buffer.to_string().into());
    words
}

/// Takes the calling thread, and those that it starts from now on, into the network namespace of a
/// process.
#[track_caller]
pub(crate) fn enter_network_of(pid: u32) {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("a namespace");
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    let entered = rustix::thread::move_into_link_name_space(namespace.as_fd(), kind);
    entered.expect("enter a network namespace");
}

/// Skips the test unless the command, which changes nothing, succeeds.
pub(crate) fn needs(what: &str, command: &mut Command) {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !quiet.status().is_ok_and(|status| status.success()) {
        runner::skip(what);
    }
}

fn read(path: &Path) -> String {
    // Not there until the first call is traced.
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
