//! Runs an executable of the build in its own home directory.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::STEP_DEADLINE;
use super::event::{self, Event};
use super::leftovers::{self, OwnedChild, OwnedDir};
use super::output::{Missed, Output};

/// How many bytes of a program's output are included in a failure message.
const EVIDENCE_BYTES: usize = 4_096;

/// The executable of that name from the same build as the suite. Cargo puts suites into a directory
/// beside the executables, and builds those of `trustctl` before it runs a suite of that package.
///
/// # Panics
///
/// If it has not been built.
#[track_caller]
pub fn executable(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this executable");
    let build = own.ancestors().nth(2).expect("a directory of the build");
    let path = build.join(name);
    assert!(path.exists(), "{} is not there: build it first", path.display());
    path
}

/// A path for `TRUST_HOME` that does not exist until the program creates it.
pub struct Home {
    directory: OwnedDir,
}

impl Home {
    pub fn new() -> Home {
        Home { directory: OwnedDir::create() }
    }

    /// The value of `TRUST_HOME`.
    pub fn path(&self) -> PathBuf {
        self.elsewhere("home")
    }

    /// A path next to the home, removed together with it.
    pub fn elsewhere(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether nothing was created, neither the home nor anything next to it.
    pub fn is_untouched(&self) -> bool {
        let mut entries = std::fs::read_dir(self.directory.path()).expect("list a directory");
        entries.next().is_none()
    }

    /// Writes `config.toml`.
    pub fn configure(&self, text: &str) {
        std::fs::create_dir_all(self.path()).expect("make the home");
        std::fs::write(self.path().join("config.toml"), text).expect("write config.toml");
    }

    /// The default path of the event log.
    pub fn log_file(&self) -> PathBuf {
        self.path().join("logs/trustctl.log")
    }

    /// Every event in the log file, each one checked.
    #[track_caller]
    pub fn logged(&self) -> Vec<Event> {
        read_log(&self.log_file())
    }

    pub fn trustctl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Launch {
        self.launch(executable("trustctl")).args(args)
    }

    pub fn echo_client<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Launch {
        self.launch(executable("echo-client")).args(args)
    }

    pub fn echo_load_test<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Launch {
        self.launch(executable("echo-load-test")).args(args)
    }

    /// `trustctl` at the end of another program's command line; on its own if `wrapper` is empty.
    pub fn trustctl_under<W: AsRef<OsStr>, A: AsRef<OsStr>>(
        &self,
        wrapper: &[W],
        args: impl IntoIterator<Item = A>,
    ) -> Launch {
        let Some((program, words)) = wrapper.split_first() else { return self.trustctl(args) };
        self.launch(program.as_ref()).args(words).args([executable("trustctl")]).args(args)
    }

    /// `trustctl` as a script would start it in the background: with that signal (`INT`) ignored.
    pub fn trustctl_ignoring<A: AsRef<OsStr>>(
        &self,
        signal: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Launch {
        let script = format!("trap '' {signal}; exec \"$0\" \"$@\"");
        self.trustctl_in_shell(&script, args)
    }

    /// `trustctl` and its arguments in a line of shell, as `$0` and `$@`: `exec "$0" "$@" <&-`.
    pub fn trustctl_in_shell<A: AsRef<OsStr>>(
        &self,
        script: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Launch {
        self.launch("/bin/sh").args(["-c", script]).args([executable("trustctl")]).args(args)
    }

    /// `trustctl` as another user, who gets the home. The executable is copied next to the home, as
    /// that user may have no access to the build. Needs root.
    #[track_caller]
    pub fn trustctl_as<A: AsRef<OsStr>>(
        &self,
        user: u32,
        args: impl IntoIterator<Item = A>,
    ) -> Launch {
        self.trustctl_as_under(user, &[], args)
    }

    /// The same, at the end of another program's command line.
    #[track_caller]
    pub fn trustctl_as_under<A: AsRef<OsStr>>(
        &self,
        user: u32,
        wrapper: &[&str],
        args: impl IntoIterator<Item = A>,
    ) -> Launch {
        use std::os::unix::fs::chown;
        use std::os::unix::process::CommandExt;
        let copy = self.elsewhere("trustctl");
        if !copy.exists() {
            // Copied by another process: if this one wrote the file, a child started meanwhile by
            // another thread would have it open for a moment, and a file open for writing cannot be
            // executed (ETXTBSY, `execve(2)`).
            let copied = Command::new("cp").args([&executable("trustctl"), &copy]).status();
            assert!(copied.expect("copy the executable").success());
        }
        chown(self.directory.path(), Some(user), Some(user)).expect("give a directory away");
        let launch = match wrapper.split_first() {
            Some((program, words)) => self.launch(program).args(words).args([copy]),
            None => self.launch(copy),
        };
        let mut launch = launch.args(args);
        launch.command.uid(user).gid(user);
        launch
    }

    fn launch(&self, program: impl AsRef<OsStr>) -> Launch {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"TRUST_") {
                command.env_remove(name);
            }
        }
        command
            .env("TRUST_HOME", self.path())
            .env("HOME", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Launch { command }
    }
}

/// Every event in that log file, each one checked.
#[track_caller]
pub fn read_log(path: &Path) -> Vec<Event> {
    match std::fs::read(path) {
        Ok(bytes) => event::parse_all(&bytes, "the log file"),
        Err(error) => panic!("cannot read the log file {}: {error}", path.display()),
    }
}

/// A program about to be started, in a clean environment.
pub struct Launch {
    command: Command,
}

impl Launch {
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Launch {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Launch {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Launch {
        self.command.env_remove(name);
        self
    }

    /// Gives the program a standard input that may have content.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Launch {
        self.command.stdin(stdin);
        self
    }

    /// Gives the program another stdout than the pipe that is read in the background; `Running` and
    /// `Finished` then see no output.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Launch {
        self.command.stdout(stdout);
        self
    }

    /// Like [`Launch::stdout`], for stderr.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Launch {
        self.command.stderr(stderr);
        self
    }

    /// Runs the program to its end, with empty standard input.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.start().wait()
    }

    /// Runs the program to its end, with these bytes on its standard input.
    ///
    /// The bytes must fit into a pipe, because they are written before the output is read.
    #[track_caller]
    pub fn run_with_input(self, bytes: &[u8]) -> Finished {
        let (running, mut input) = self.start_with_input();
        input.write_all(bytes).expect("write the input");
        drop(input);
        running.wait()
    }

    #[track_caller]
    pub fn start(mut self) -> Running {
        let name = self.name();
        let child = OwnedChild::spawn(&mut self.command);
        let (stdout, stderr) = child.with(|child| (child.stdout.take(), child.stderr.take()));
        Running {
            name,
            stdout: stdout.map_or_else(|| Output::collect(std::io::empty()), Output::collect),
            stderr: stderr.map_or_else(|| Output::collect(std::io::empty()), Output::collect),
            child,
        }
    }

    /// Starts the program with this connection as its standard input, output and error.
    #[track_caller]
    pub fn start_over(mut self, connection: OwnedFd) -> OwnedChild {
        let twin = || connection.try_clone().expect("duplicate a descriptor");
        self.command.stdin(twin()).stdout(twin()).stderr(twin());
        OwnedChild::spawn(&mut self.command)
    }

    /// The command line for display, with long arguments cut.
    fn name(&self) -> String {
        const SHOWN_CHARS: usize = 60;
        let program = Path::new(self.command.get_program()).file_name();
        let words = program.into_iter().chain(self.command.get_args());
        let cut = |word: &OsStr| word.to_string_lossy().chars().take(SHOWN_CHARS).collect();
        words.map(cut).collect::<Vec<String>>().join(" ")
    }

    /// Starts the program; returns the pipe to its standard input as well.
    #[track_caller]
    pub fn start_with_input(mut self) -> (Running, ChildStdin) {
        self.command.stdin(Stdio::piped());
        let running = self.start();
        let input = running.child.with(|child| child.stdin.take());
        (running, input.expect("stdin is a pipe"))
    }
}

/// A running program, killed and reaped when dropped.
pub struct Running {
    name: String,
    child: OwnedChild,
    stdout: Output,
    stderr: Output,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.pid().as_raw_pid().unsigned_abs()
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for an event on stdout, searching from the first line.
    #[track_caller]
    pub fn wait_for_event(
        &self,
        name: &str,
        predicate: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Event {
        match self.find_event(name, predicate, deadline) {
            Ok(event) => event,
            Err(missed) => panic!("no fitting {name} event came {missed}"),
        }
    }

    /// The same, if there may be none.
    pub fn find_event(
        &self,
        name: &str,
        predicate: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Result<Event, Missed> {
        self.stdout.wait_for_event(name, predicate, deadline)
    }

    /// Waits until at least this many bytes have been written to stdout.
    #[track_caller]
    pub fn wait_for_output(&self, bytes: usize) {
        if let Err(missed) = self.stdout.wait_for_bytes(bytes, STEP_DEADLINE) {
            panic!("fewer than {bytes} bytes came on stdout {missed}");
        }
    }

    /// Waits until it has written these words to stderr.
    #[track_caller]
    pub fn wait_for_complaint(&self, words: &str) {
        if let Err(missed) = self.stderr.wait_for_text(words, STEP_DEADLINE) {
            panic!("{words:?} did not come on stderr {missed}: {:?}", self.stderr.so_far());
        }
    }

    /// Its stdout so far.
    pub fn printed(&self) -> String {
        self.stdout.so_far()
    }

    /// Waits for the program to end on its own.
    #[track_caller]
    pub fn wait(self) -> Finished {
        self.wait_for(STEP_DEADLINE)
    }

    /// The same, for a program that is busy for longer than one step.
    #[track_caller]
    pub fn wait_for(mut self, deadline: Duration) -> Finished {
        let Some(status) = self.child.wait(deadline) else {
            panic!("still running after {deadline:?}: `{}`", self.name);
        };
        let stdout = self.stdout.wait_for_end(STEP_DEADLINE);
        let stderr = self.stderr.wait_for_end(STEP_DEADLINE);
        let stderr = stderr.expect("stderr ends with the program");
        Finished {
            name: self.name.clone(),
            status,
            stdout: stdout.expect("stdout ends with the program"),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            leftovers::add_evidence(format!(
                "of `{}`\nstdout: {}\nstderr: {}",
                self.name,
                tail(&self.stdout.so_far()),
                tail(&self.stderr.so_far())
            ));
        }
    }
}

/// The results of a program that has ended.
pub struct Finished {
    name: String,
    status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Finished {
        assert_eq!(
            self.status.code(),
            Some(code),
            "`{}` ended with {}\nstdout: {}\nstderr: {}",
            self.name,
            self.status,
            tail(&String::from_utf8_lossy(&self.stdout)),
            tail(&self.stderr)
        );
        self
    }

    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Checks that stderr contains each of the words.
    #[track_caller]
    pub fn complains_about(self, words: &[&str]) -> Finished {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{word:?} is not in stderr of `{}`: {:?}",
                self.name,
                self.stderr
            );
        }
        self
    }

    #[track_caller]
    pub fn complains_in_one_line(self) -> Finished {
        let mut lines = self.stderr.lines();
        let error = lines.next().unwrap_or_default();
        let has_hint_at_most = match lines.next() {
            Some(hint) => hint.starts_with("hint: ") && lines.next().is_none(),
            None => true,
        };
        assert!(
            !error.trim().is_empty() && has_hint_at_most,
            "one line, and perhaps a hint, on stderr expected from `{}`: {:?}",
            self.name,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn complains_about_nothing(self) -> Finished {
        assert_eq!(self.stderr, "", "stderr of `{}` is not empty", self.name);
        self
    }

    /// Checks that stdout is exactly this.
    #[track_caller]
    pub fn prints(self, expected: impl AsRef<[u8]>) -> Finished {
        let expected = expected.as_ref();
        assert!(
            self.stdout == expected,
            "`{}` printed {:?}, not {:?}",
            self.name,
            tail(&String::from_utf8_lossy(&self.stdout)),
            tail(&String::from_utf8_lossy(expected))
        );
        self
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is UTF-8")
    }

    /// Every line of stdout as an event, each one checked.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        event::parse_all(&self.stdout, "stdout")
    }
}

/// The end of a program's output, for a failure message.
pub fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(EVIDENCE_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
