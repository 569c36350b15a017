//! Limits of the process (setrlimit(2)) that a run meets.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::support::event;
use crate::support::model::Model;
use crate::support::program::{Home, Launch};
use crate::support::server::Server;

/// Bytes that a file may have; as many as a server logs for some clients.
const FILE_BYTES_MAX: u64 = 8192;

const SIGPIPE: i32 = 13;
const SIGXFSZ: i32 = 25;

/// Lowers the limit in a shell, which counts in blocks of 512 bytes, and becomes the program.
const WITH_SMALL_FILES: &str = "ulimit -f 16; exec \"$0\" \"$@\"";

#[test]
fn a_server_outlives_a_log_file_that_reaches_the_size_limit() {
    for model in [Model::Event, Model::Iterative, Model::Process] {
        let launch = |home: &Home, arguments: &[OsString]| -> Launch {
            home.trustctl_in_shell(WITH_SMALL_FILES, arguments)
        };
        let server = Server::of_under(model, Home::new(), ["--workers", "1"], launch);
        let log = server.log_file();
        let length = || fs::metadata(&log).expect("the log is there").len();
        while length() < FILE_BYTES_MAX {
            server.serves_the_next();
        }
        server.serves_the_next();
        assert_eq!(length(), FILE_BYTES_MAX);
        // What a child could not write it has told on stdout too.
        let printed = server.stop_with_log_elsewhere();
        let gaps = event::named(&printed, "log_gap");
        assert!(gaps.iter().any(|gap| gap.text("sink") == "file"), "{model:?}: {gaps:?}");
    }
}

#[test]
fn a_command_whose_output_reaches_the_size_limit_ends_with_its_own_exit_code() {
    let home = Home::new();
    let script = "ulimit -f 1; exec \"$0\" \"$@\" >out.txt";
    let directory = home.elsewhere("here");
    fs::create_dir(&directory).expect("make a directory");
    let cases: [(&[&str], &str); 3] = [
        (&["check", "--list"], "cannot write to standard output: File too large"),
        (&["config", "show", "--log-level", "error"], "cannot write to standard output"),
        (&["--help"], "cannot write to standard output: File too large"),
    ];
    for (arguments, message) in cases {
        let script = format!("cd '{}'; {script}", directory.display());
        let arguments = ["--log-file", "none"].iter().chain(arguments);
        let finished = home.trustctl_in_shell(&script, arguments).run().exits_with(74);
        finished.complains_about(&["error: ", message]).complains_in_one_line();
    }
}

#[test]
fn programs_that_are_started_have_the_default_of_every_signal_that_a_write_can_raise() {
    const SIGNALS: [(i32, &str); 2] = [(SIGPIPE, "SIGPIPE"), (SIGXFSZ, "SIGXFSZ")];
    let home = Home::new();
    let status = home.elsewhere("status");
    // Even where they were ignored before us, and blocked.
    let command = format!("cat /proc/self/status >{}; exit 3; {{port}}", status.display());
    let arguments = ["check", "--command", &command, "--log-file", "none"];
    home.trustctl_ignoring("PIPE XFSZ", arguments).run().exits_with(69);
    let status = fs::read_to_string(status).expect("the program ran");
    for name in ["SigIgn:", "SigBlk:"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)).expect("a mask");
        let mask = u64::from_str_radix(mask.trim(), 16).expect("hexadecimal");
        for (number, signal) in SIGNALS {
            assert_eq!(mask >> (number - 1) & 1, 0, "{signal} is in {name} {mask:x}");
        }
    }
}

#[test]
fn the_size_limit_ends_a_process_that_does_not_expect_it() {
    // Else the tests above would prove nothing.
    let script = "ulimit -f 1; exec head -c 4096 /dev/zero >\"$0\"";
    let home = Home::new();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(home.elsewhere("file"));
    let status = command.status().expect("run a shell");
    assert_eq!(status.signal(), Some(SIGXFSZ));
}
