//! A server on a unix socket (unix(7)).

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::Event;
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::peer::{frame, pattern};
use trust_testkit::program::Home;
use trust_testkit::server::Server;

use crate::leave_out;

/// Those that listen themselves.
const MODELS: [Model; 3] = [Model::Event, Model::Iterative, Model::Process];

/// A directory in which there may be a socket, and its path.
struct Place {
    _home: Home,
    directory: PathBuf,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let home = Home::new();
        let directory = home.elsewhere("run");
        fs::create_dir(&directory).expect("it is made");
        Place { _home: home, path: directory.join("socket"), directory }
    }

    fn host(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// A server that listens there.
    fn start(&self, model: Model, flags: &[&str]) -> Server {
        start_at(model, &self.host(), flags)
    }

    fn connect(&self) -> UnixStream {
        connect(&self.path)
    }

    /// What is there.
    fn names(&self) -> Vec<OsString> {
        let entries = fs::read_dir(&self.directory).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    }
}

fn start_at(model: Model, host: &str, flags: &[&str]) -> Server {
    let home = Home::new();
    let words = ["echo-server", "--model", model.name(), "--host", host];
    let launch = home.trustctl(words).args(flags);
    let server = Server::start_as(model, home, launch);
    let start = server.start_event();
    assert_eq!((start.text("addr"), start.texts("addresses")), (host, vec![host]));
    assert!(!start.has("port"), "{start:?}");
    server
}

fn with_deadline(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(STEP_DEADLINE)).expect("a deadline");
    stream.set_write_timeout(Some(STEP_DEADLINE)).expect("a deadline");
    stream
}

fn connect(path: &Path) -> UnixStream {
    with_deadline(UnixStream::connect(path).expect("it listens"))
}

#[track_caller]
fn receives(stream: &mut UnixStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).expect("all of it");
    assert!(received == expected, "another echo");
}

#[track_caller]
fn receives_end(stream: &mut UnixStream) {
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
}

#[track_caller]
fn closes(server: &Server, reason: &str) -> Event {
    let close = server.wait_for_event("client_close", |_| true, STEP_DEADLINE);
    assert_eq!(close.text("reason"), reason, "{close:?}");
    close
}

/// The error message of a server that does not start on the path, and its exit code.
fn refusal(home: &Home, path: &Path, code: i32) -> String {
    let host = format!("unix:{}", path.display());
    let launch = home.trustctl(["echo-server", "--log-file=none", "--host", &host]);
    let finished = launch.run().exits_with(code).complains_in_one_line();
    let error = format!("error: cannot listen on '{host}': ");
    let finished = finished.complains_about(&[&error]);
    finished.stderr.trim_end().strip_prefix(&error).expect("it begins so").to_owned()
}

#[test]
fn every_model_echoes_over_a_path_and_over_an_abstract_name() {
    for model in MODELS {
        let place = Place::new();
        let server = place.start(model, &["--mode=framed"]);
        is_served(&server, place.connect());
        server.stop();
        assert!(place.names().is_empty());

        let name = format!("trustctl-unix-server-{}-{}", std::process::id(), model.name());
        let host = format!("unix:@{name}");
        let server = start_at(model, &host, &["--mode=framed"]);
        let address = UnixAddress::from_abstract_name(&name).expect("a name");
        is_served(&server, with_deadline(UnixStream::connect_addr(&address).expect("it listens")));
        server.stop();
    }
}

fn is_served(server: &Server, mut peer: UnixStream) {
    let (pid, uid) = (u64::from(std::process::id()), u64::from(geteuid().as_raw()));
    for payload in [&b""[..], b"hello", &pattern(65536)] {
        peer.write_all(&frame(payload)).expect("it is read");
        receives(&mut peer, &frame(payload));
    }
    peer.shutdown(Shutdown::Write).expect("it is open");
    receives_end(&mut peer);
    let close = closes(server, "peer_fin");
    let connect = server.wait_for_event("client_connect", |_| true, STEP_DEADLINE);
    for event in [connect, close] {
        assert_eq!(event.text("peer"), "unix:");
        assert_eq!((event.count("peer_pid"), event.count("peer_uid")), (pid, uid));
    }
}

#[test]
fn many_small_frames_and_large_ones_flow_in_both_directions_at_once() {
    for model in MODELS {
        let flags = ["--mode=framed", "--max-frame=8MiB", "--workers=1"];
        let place = Place::new();
        let server = place.start(model, &flags);
        let stream = [frame(b"x").repeat(20_000), frame(&pattern(8 << 20)), frame(b"last")];
        let stream = stream.concat();
        let mut peer = place.connect();
        let mut writer = peer.try_clone().expect("a descriptor");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&stream).expect("it is read");
                writer.shutdown(Shutdown::Write).expect("it is open");
            });
            receives(&mut peer, &stream);
        });
        receives_end(&mut peer);
        assert_eq!(closes(&server, "peer_fin").count("frames_out"), 20_002);
        server.stop();
    }
}

#[test]
fn a_byte_that_was_sent_as_urgent_is_one_of_the_stream() {
    let place = Place::new();
    let server = place.start(Model::Event, &["--mode=raw"]);
    let mut peer = place.connect();
    peer.write_all(b"ab").expect("it is read");
    match rustix::net::send(&peer, b"c", rustix::net::SendFlags::OOB) {
        Ok(_) => {
            peer.write_all(b"d").expect("it is read");
            receives(&mut peer, b"abcd");
        }
        // Before Linux 5.15.
        Err(error) => assert_eq!(error, rustix::io::Errno::OPNOTSUPP),
    }
    drop(peer);
    server.stop();
}

#[test]
fn programs_that_people_use_are_served() {
    let place = Place::new();
    let server = place.start(Model::Event, &[]);
    let to = format!("UNIX-CONNECT:{}", place.path.display());
    let path = place.path.to_str().expect("text");
    for (program, arguments) in [("nc", vec!["-U", "-N", path]), ("socat", vec!["-t9", "-", &to])] {
        let client = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut client) = client else { return leave_out(program) };
        let mut input = client.stdin.take().expect("a pipe");
        input.write_all(b"by hand\n").expect("it is read");
        drop(input);
        let output = client.wait_with_output().expect("it ends");
        assert_eq!(output.stdout, b"by hand\n", "{program}");
    }
    server.stop();
}

#[test]
fn a_file_that_a_killed_server_has_left_is_replaced() {
    for model in MODELS {
        let (home, place) = (Home::new(), Place::new());
        let flags = ["echo-server", "--log-file=none", "--host", &place.host()];
        let killed = home.trustctl(flags).start();
        killed.wait_for_event("server_start", |_| true, STEP_DEADLINE);
        killed.signal(Signal::KILL);
        killed.wait();
        let refused = UnixStream::connect(&place.path).expect_err("there is no listener");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        let server = place.start(model, &[]);
        drop(place.connect());
        server.stop();
        assert!(place.names().is_empty());
    }
}

#[test]
fn what_somebody_else_has_there_is_left_alone() {
    let place = Place::new();
    let server = place.start(Model::Event, &[]);
    let home = Home::new();
    let listens = format!("another server listens there (process {})", server.pid());
    assert_eq!(refusal(&home, &place.path, 69), listens);
    drop(place.connect());
    server.stop();

    let path = home.elsewhere("other");
    let other = UnixListener::bind(&path).expect("it is free");
    let listens = format!("another server listens there (process {})", std::process::id());
    assert_eq!(refusal(&home, &path, 69), listens);
    // It was asked by a connection that has ended.
    let (mut asked, _) = other.accept().expect("a client");
    receives_end(&mut asked);

    let path = home.elsewhere("file");
    fs::write(&path, "precious").expect("it is written");
    assert_eq!(refusal(&home, &path, 69), "a file that is no socket has that name");
    assert_eq!(fs::read(&path).expect("it is there"), b"precious");
}

#[test]
fn a_path_that_cannot_be_is_refused_in_one_line() {
    let home = Home::new();
    let missing = home.elsewhere("missing").join("socket");
    assert_eq!(refusal(&home, &missing, 73), "No such file or directory");

    let path = home.elsewhere("socket");
    let host = format!("unix:{}", path.display());
    let long = format!("unix:{}", "x".repeat(108));
    let refused = |flags: &[&str], words: &str| {
        let launch = home.trustctl(["echo-server", "--log-file=none"]).args(flags);
        launch.run().exits_with(64).complains_about(&[words]).complains_in_one_line();
    };
    let no_port = format!("--port cannot be used with --host '{host}': a unix socket has no port");
    refused(&["--host", &host, "--port=1"], &no_port);
    refused(&["--host", &long], "the path of a unix socket has at most 107 bytes, this has 108");
    refused(&["--host=/run/x.sock"], "expected unix:/run/x.sock for a unix socket");
    refused(&["--host", &host, "--socket-mode=0888"], "as an octal number");
    refused(&["--port=0", "--socket-mode=0660"], "--socket-mode '0660' needs --host unix:PATH");
    refused(&["--host=unix:@x", "--socket-mode=0660"], "it makes no file");
    assert!(!path.exists());
}

#[test]
fn the_file_has_the_mode_that_was_asked_for_whatever_the_umask() {
    for mode in ["0600", "0666", "777"] {
        let (home, place) = (Home::new(), Place::new());
        let words = ["echo-server", "--host", &place.host(), "--socket-mode", mode];
        let launch = home.trustctl_in_shell("umask 077; exec \"$0\" \"$@\"", words);
        let server = Server::start_as(Model::Event, home, launch);
        let has = fs::metadata(&place.path).expect("it is there").permissions().mode() & 0o7777;
        assert_eq!(has, u32::from_str_radix(mode, 8).expect("octal"));
        server.stop();
    }
}

#[test]
fn the_file_of_settings_may_be_for_a_unix_socket_and_a_flag_for_a_port() {
    let place = Place::new();
    let start = |flags: &[&str]| {
        let home = Home::new();
        let host = place.host();
        home.configure(&format!("[echo-server]\nhost = {host:?}\nsocket-mode = \"0666\"\n"));
        let launch = home.trustctl(["echo-server"]).args(flags);
        Server::start_as(Model::Event, home, launch)
    };
    let server = start(&[]);
    assert_eq!(server.start_event().text("addr"), place.host());
    let mode = fs::metadata(&place.path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o666);
    server.stop();
    for flags in [&["--port=0"][..], &["--port=0", "--host=127.0.0.1"]] {
        let server = start(flags);
        drop(server.peer());
        assert!(place.names().is_empty());
        server.stop();
    }
}

#[test]
fn the_file_is_gone_as_soon_as_nobody_is_accepted_any_more() {
    for model in MODELS {
        let place = Place::new();
        let server = place.start(model, &["--mode=framed", "--frame-timeout=0"]);
        let mut peer = place.connect();
        peer.write_all(&frame(b"hello")).expect("it is read");
        receives(&mut peer, &frame(b"hello"));
        // It may finish what it has begun, until a second signal.
        peer.write_all(&frame(b"never whole")[..7]).expect("it is taken");
        server.signal(Signal::TERM);
        server.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
        assert!(place.names().is_empty());
        server.stop_with(Signal::TERM, 1);
        // There is no RST, and all that was sent had been read.
        receives_end(&mut peer);
    }
}

#[test]
fn a_file_that_was_put_there_since_stays() {
    let place = Place::new();
    let server = place.start(Model::Event, &[]);
    fs::remove_file(&place.path).expect("it is there");
    let others = UnixListener::bind(&place.path).expect("it is free");
    server.stop();
    drop(place.connect());
    drop(others);
}

#[test]
fn a_socket_that_was_handed_over_is_served_and_left() {
    for model in MODELS {
        let (home, place) = (Home::new(), Place::new());
        let listener = UnixListener::bind(&place.path).expect("it is free");
        let mut early = place.connect();
        early.write_all(b"early").expect("it is taken");
        let script = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null";
        let launch = home.trustctl_in_shell(script, ["echo-server", "--model", model.name()]);
        let copy = OwnedFd::from(listener.try_clone().expect("a descriptor"));
        let server = Server::start_as(model, home, launch.env("LISTEN_FDS", "1").stdin(copy));
        let start = server.start_event();
        assert_eq!(start.text("addr"), place.host());
        assert_eq!(start.count("listeners"), 1);
        receives(&mut early, b"early");
        drop(early);
        closes(&server, "peer_fin");
        server.stop();
        // The next server has it.
        drop(place.connect());
    }
}

#[test]
fn the_connection_of_a_super_server_may_be_a_unix_socket() {
    let home = Home::new();
    let (peer, stream) = UnixStream::pair().expect("a pair");
    let mut peer = with_deadline(peer);
    let flags = ["echo-server", "--inetd", "--mode=raw"];
    let program = home.trustctl(flags).start_over(stream.into());
    peer.write_all(b"one connection").expect("it is read");
    receives(&mut peer, b"one connection");
    peer.shutdown(Shutdown::Write).expect("it is open");
    receives_end(&mut peer);
    assert!(program.with(|child| child.wait().expect("it ends").success()));
    let events = home.logged();
    let start = events.iter().find(|event| event.name() == "server_start").expect("one");
    assert_eq!(start.text("addr"), "unix:");
    let close = events.iter().find(|event| event.name() == "client_close").expect("one");
    assert_eq!(
        (close.text("reason"), close.count("peer_uid")),
        ("peer_fin", geteuid().as_raw().into())
    );
}

#[test]
fn a_reader_that_is_slow_is_served_and_one_that_never_reads_is_cut() {
    for model in MODELS {
        let flags = ["--mode=framed", "--timeout=1500ms"];
        let place = Place::new();
        let server = place.start(model, &flags);
        let mut slow = place.connect();
        // Each answer takes memory of its own, much more than its bytes, which falls when it is
        // read.
        const FRAMES: usize = 8;
        for count in 1..=FRAMES {
            slow.write_all(&frame(b"x")).expect("it is taken");
            let are_there = || rustix::io::ioctl_fionread(&slow) == Ok(5 * count as u64);
            kernel::wait_until("an answer", are_there);
        }
        for _ in 0..FRAMES {
            std::thread::sleep(Duration::from_millis(300));
            receives(&mut slow, &frame(b"x"));
        }
        slow.shutdown(Shutdown::Write).expect("it is open");
        receives_end(&mut slow);
        closes(&server, "peer_fin");

        let mut never = place.connect();
        never.write_all(&frame(b"unread")).expect("it is taken");
        let timeout = |event: &Event| event.count("conn") == 2;
        let close = server.wait_for_event("client_close", timeout, STEP_DEADLINE);
        assert_eq!(close.text("reason"), "send_timeout", "{close:?}");
        // What it was sent is there all the same.
        receives(&mut never, &frame(b"unread"));
        receives_end(&mut never);
        server.stop();
    }
}

#[test]
fn every_end_reaches_the_client_and_the_log() {
    for model in MODELS {
        let limits = ["--timeout=2s", "--frame-timeout=300ms", "--linger-timeout=2s"];
        let flags = [&["--mode=framed"][..], &limits].concat();
        let place = Place::new();
        let server = place.start(model, &flags);
        let about = |conn: u64, reason: &str| {
            let of_it = |event: &Event| event.count("conn") == conn;
            let close = server.wait_for_event("client_close", of_it, STEP_DEADLINE);
            assert_eq!(close.text("reason"), reason, "{close:?}");
        };
        let mut silent = place.connect();
        receives_end(&mut silent);
        drop(silent);
        about(1, "recv_timeout");

        let mut slow = place.connect();
        slow.write_all(&frame(b"slow")[..6]).expect("it is taken");
        receives_end(&mut slow);
        about(2, "frame_timeout");

        let mut left = place.connect();
        left.write_all(&frame(b"answer")).expect("it is taken");
        // Its answer is there, and it goes without it.
        left.set_nonblocking(false).expect("it is a socket");
        rustix::net::recv(&left, &mut [0; 1], rustix::net::RecvFlags::PEEK).expect("a byte");
        drop(left);
        about(3, "client_reset");

        let mut large = place.connect();
        large.write_all(&u32::MAX.to_be_bytes()).expect("it is taken");
        receives_end(&mut large);
        drop(large);
        about(4, "frame_too_large");
        server.stop();
    }
}
