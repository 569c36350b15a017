//! Limits of the process (setrlimit(2)) that a run may hit.

use std::ffi::OsString;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::leave_out;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event;
use trust_testkit::model::Model;
use trust_testkit::program::{Home, Launch};
use trust_testkit::server::{Server, all_are_served};

/// The largest size of a file in bytes; a server logs as much for a few clients.
const FILE_BYTES_MAX: u64 = 8192;

const SIGPIPE: i32 = 13;
const SIGXFSZ: i32 = 25;

/// Lowers the limit in a shell, which counts in blocks of 512 bytes and then becomes the program.
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
        // Lines that a child could not write it has reported on stdout too.
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
    // Even if they were ignored before, and blocked.
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
    // Otherwise the tests above would prove nothing.
    let script = "ulimit -f 1; exec head -c 4096 /dev/zero >\"$0\"";
    let home = Home::new();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(home.elsewhere("file"));
    let status = command.status().expect("run a shell");
    assert_eq!(status.signal(), Some(SIGXFSZ));
}

#[test]
fn a_server_says_that_it_has_started_once_it_has_all_its_threads_and_not_before() {
    if !rustix::process::geteuid().is_root() {
        return leave_out("root, to run as a user who has no other threads");
    }
    // An unused user ID: the limit counts all threads of a user. The main thread, two for logs, one
    // per worker.
    let user = 100_000 + std::process::id();
    for (model, workers, threads) in [
        (Model::Event, 4, 7),
        (Model::Event, 1, 4),
        (Model::Iterative, 1, 4),
        (Model::Process, 1, 4),
    ] {
        for allowed in 2..=threads + 1 {
            let name = format!("trustctl-{user}-{}-{workers}-{allowed}", model.name());
            let address = SocketAddr::from_abstract_name(&name).expect("a name");
            let manager = UnixDatagram::bind_addr(&address).expect("a socket of a new name");
            manager.set_nonblocking(true).expect("it can be asked without waiting");
            let home = Home::new();
            let flags = ["echo-server", "--workers", &workers.to_string()];
            let arguments = flags.iter().chain(model.flags());
            let limit = format!("--nproc={allowed}");
            let launch = home.trustctl_as_under(user, &["prlimit", &limit], arguments);
            let launch = launch.env("NOTIFY_SOCKET", format!("@{name}"));
            let mut message = [0; 1024];
            if allowed >= threads {
                let server = Server::start_as(model, home, launch);
                manager.set_nonblocking(false).expect("it can be waited for");
                manager.set_read_timeout(Some(STEP_DEADLINE)).expect("for a while");
                let length = manager.recv(&mut message).expect("a message");
                assert!(message[..length].starts_with(b"READY=1\n"));
                server.stop();
                continue;
            }
            let finished = launch.run().exits_with(71).complains_in_one_line();
            let events = finished.events();
            for never in ["server_start", "drain_start", "client_connect"] {
                assert!(event::named(&events, never).is_empty(), "{allowed}: {events:?}");
            }
            let told = manager.recv(&mut message).map_err(|error| error.kind());
            assert_eq!(told, Err(std::io::ErrorKind::WouldBlock), "{model:?} with {allowed}");
        }
    }
}

#[test]
fn a_client_who_cannot_be_watched_waits_as_in_the_accept_queue() {
    const CLIENTS: usize = 16;
    let is_there = Command::new("strace").arg("-V").output().is_ok_and(|it| it.status.success());
    if !is_there {
        return leave_out("strace");
    }
    // As if max_user_watches (epoll(7)) were reached, after the two calls per worker with which the
    // main thread prepares them.
    for (workers, when) in [("1", "3..5"), ("2", "5..7")] {
        let injection = format!("inject=epoll_ctl:error=ENOSPC:when={when}");
        let home = Home::new();
        let trace = home.elsewhere("trace").display().to_string();
        let strace =
            ["strace", "-D", "-f", "-q", "-o", &trace, "-e", "trace=epoll_ctl", "-e", &injection];
        let arguments = ["echo-server", "--port", "0", "--workers", workers];
        let launch = home.trustctl_under(&strace, arguments);
        let server = Server::start_as(Model::Event, home, launch);
        let peers = (0..CLIENTS).map(|_| server.peer()).collect();
        for address in all_are_served(peers) {
            server.closes(address, "peer_fin");
        }
        let events = server.stop();
        let paused = event::named(&events, "accept_paused");
        assert!(!paused.is_empty(), "nothing was injected");
        assert!(paused.iter().all(|it| it.text("errno_name") == "ENOSPC"), "{paused:?}");
        assert_eq!(event::named(&events, "accept_resumed").len(), paused.len());
        assert!(event::named(&events, "io_error").is_empty());
    }
}
