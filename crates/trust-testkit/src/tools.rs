//! External tools that inject faults, and whether they are installed.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use super::event::Event;
use super::kernel;
use super::leftovers::OwnedDir;
use super::runner;

/// The system calls of servers, observed by `strace`. Each server stays a direct child of the test.
/// Several can be observed at once.
pub struct Trace {
    directory: OwnedDir,
}

impl Trace {
    /// Skips the test if `strace` is missing or may not trace.
    pub fn new() -> Trace {
        needs("strace", Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]));
        Trace { directory: OwnedDir::create() }
    }

    /// The command line to put before the server's: which calls to trace, with the time of each,
    /// and what to inject. Each process started this way gets its own trace file.
    pub fn wrapper(&self, calls: &str, injections: &[String]) -> Vec<OsString> {
        // The shell's process ID becomes that of the server.
        let strace = "exec strace -D -f -q -ttt -o \"$0/$$\" \"$@\"";
        let mut words: Vec<OsString> = ["sh", "-c", strace].map(Into::into).into();
        words.push(self.directory.path().into());
        words.push("-e".into());
        words.push(format!("trace={calls}").into());
        for injection in injections {
            words.extend(["-e".into(), format!("inject={injection}").into()]);
        }
        words
    }

    /// All lines, once the processes that logged these `server_start` events have ended.
    #[track_caller]
    pub fn lines_after_end_of(&self, server_starts: &[&Event]) -> Vec<String> {
        let mut text = String::new();
        let has_ended = |text: &str, start: &Event| {
            let from = format!("{} ", start.count("pid"));
            let is_end = |line: &str| line.starts_with(&from) && line.contains("+++ ");
            text.lines().any(is_end)
        };
        kernel::wait_until("the end of the trace", || {
            text = self.read();
            text.ends_with('\n') && server_starts.iter().all(|start| has_ended(&text, start))
        });
        text.lines().map(str::to_owned).collect()
    }

    /// The complete lines so far.
    pub fn lines(&self) -> Vec<String> {
        let text = self.read();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    /// Everything there is by now, the traces of several servers one after another.
    fn read(&self) -> String {
        let traces = std::fs::read_dir(self.directory.path()).expect("list a directory");
        let text = |entry: std::fs::DirEntry| std::fs::read(entry.path()).unwrap_or_default();
        let bytes: Vec<u8> = traces.flatten().flat_map(text).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Skips the test unless the command, which must change nothing, succeeds.
pub fn needs(what: &str, command: &mut Command) {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !quiet.status().is_ok_and(|status| status.success()) {
        runner::skip(what);
    }
}

/// The times, in seconds, of the calls whose lines in a trace contain all of these words.
pub fn times_of(lines: &[String], words: &[&str]) -> Vec<f64> {
    let is_it = |line: &&String| words.iter().all(|word| line.contains(word));
    let time = |line: &String| {
        let time = line.split_whitespace().nth(1).and_then(|time| time.parse().ok());
        time.unwrap_or_else(|| panic!("no time in {line:?}"))
    };
    lines.iter().filter(is_it).map(time).collect()
}

/// The most calls in any second.
pub fn most_in_a_second(times: &[f64]) -> usize {
    let in_the_second_from =
        |first: &f64| times.iter().filter(|time| (*first..*first + 1.0).contains(*time)).count();
    times.iter().map(in_the_second_from).max().unwrap_or(0)
}
