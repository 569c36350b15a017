//! The log, the environment and bad input.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use super::case::Case;
use super::programs;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::followed::Followed;
use trust_testkit::kernel;
use trust_testkit::leftovers::OwnedDir;
use trust_testkit::model::Model;
use trust_testkit::net::{Network, SmallDisk, with_own_mounts};
use trust_testkit::output::Output;
use trust_testkit::peer::{Peer, frame};
use trust_testkit::program::{Finished, Home, Running};
use trust_testkit::server::{CHILDREN_AT_ONCE, NO_FLAGS, Server, all_are_served};
use trust_testkit::witness::Witness;

pub(crate) const CASES: &[Case] = &[
    Case::new("log on a full disk", log_on_a_full_disk)
        .alias(42)
        .and_once(next_writer_closes_a_torn_line),
    Case::new("log path impossible", log_path_impossible).alias(43),
    Case::new("stdout never read, stdout closed", stdout_is_never_read)
        .alias(44)
        .except(&[(Model::Inetd, "its stdout is the client, and nothing is ever printed there")])
        .and_once(a_child_that_ends_leaves_no_part_of_a_line),
    Case::new("hostile text in arguments", serves_under_a_hostile_name)
        .alias(45)
        .and_once(hostile_text),
    Case::new("bad flags, ports and rights", bad_flags_ports_and_rights)
        .alias(46)
        .except(&[(Model::Inetd, "it binds nothing, and takes no port")]),
    Case::new("descriptors 0-2 closed at start", standard_streams_closed)
        .alias(47)
        .except(&[(Model::Inetd, "descriptor 0 is the connection")])
        .and_once(client_prints_nowhere_else),
];

/// Bytes of a small disk before and after it is enlarged; multiples of the unit of memory
/// allocation.
pub(super) const SMALL_DISK: u64 = 65_536;
pub(super) const ENOUGH_DISK: u64 = 64 * 1_048_576;

/// More bytes of events than a server buffers for an output that does not take them.
const MORE_THAN_IS_HELD_BACK: u64 = 9 * 1_048_576;

/// Connections whose events, three each in lines of [`LONG_LINE_BYTES`], amount to as many bytes.
const MANY_CONNECTIONS: usize = (MORE_THAN_IS_HELD_BACK / (3 * LONG_LINE_BYTES)) as usize;

/// Connections whose events fill a pipe.
pub(super) const FEW_CONNECTIONS: usize = 10;

/// Minimum length of every line of a run configured with [`long_lines`].
const LONG_LINE_BYTES: u64 = 6 * 3_000;

/// The configuration of an identity of 3,000 bytes, each of which takes six in every line of the
/// log, so that few lines fill something.
pub(super) fn long_lines() -> String {
    lines_of(LONG_LINE_BYTES as usize)
}

/// The same with lines of that many bytes and a few more.
fn lines_of(bytes: usize) -> String {
    format!("request-id = \"{}\"\n", "\\u0001".repeat(bytes / 6))
}

fn log_on_a_full_disk(model: Model) {
    if model == Model::Inetd {
        let place = OwnedDir::create();
        return with_own_mounts(|| programs::share_a_full_disk(&place.path().join("disk")));
    }
    let place = OwnedDir::create();
    with_own_mounts(|| serves_on_a_full_disk(model, &place.path().join("disk")));
    let place = OwnedDir::create();
    with_own_mounts(|| ends_on_a_full_disk(model, &place.path().join("disk")));
}

/// A writer that was killed on a full disk has left a partial line.
fn next_writer_closes_a_torn_line() {
    let place = OwnedDir::create();
    with_own_mounts(|| finds_and_closes_a_torn_line(&place.path().join("disk")));
}

fn serves_on_a_full_disk(model: Model, directory: &Path) {
    let disk = SmallDisk::mount(directory, SMALL_DISK);
    let (server, log) = server_with_log_in(directory, model);
    // The iterative model serves no one else meanwhile.
    let witness = model.serves_several().then(|| server.witness());
    let descriptors = server.descriptor_count();
    fill(&disk, &server);
    server.serves_the_next_ones(MANY_CONNECTIONS);
    let len = fs::metadata(&log).expect("ask for the log's length").len();
    assert!(disk.is_full() && len <= SMALL_DISK, "a log of {len} bytes");

    disk.resize(ENOUGH_DISK);
    let mut file = Followed::new(&log);
    file.wait_for("log_gap", |_| true);
    server.comes_back_to_descriptors(descriptors);
    if let Some(witness) = witness {
        let address = witness.address();
        witness.leaves();
        server.closes(address, "peer_fin");
    }
    let printed = server.stop_with_log_elsewhere();
    let (logged, torn) = file.finish();
    assert_torn_at_most_once(&torn, &printed);
    assert!(lacking(&printed, &logged) > 0, "nothing was lost, so the test proves nothing");
    // With many children at a busy pipe, one may end without having printed its line.
    let with_lost = |events: &[Event], sink| {
        let gaps = event::named(events, "log_gap").len() as u64;
        let told = dropped(&logged, sink) + dropped(&printed, sink);
        events.len() as u64 - gaps + told
    };
    let (of_file, of_stdout) = (with_lost(&logged, "file"), with_lost(&printed, "stdout"));
    assert_eq!(of_file, of_stdout, "log_gap does not count what was lost");
    assert_eq!(logged.first().map(Event::name), Some("cmd_start"));
    assert_eq!(logged.last().map(Event::name), Some("cmd_finish"));
}

/// Lines that the file has not taken by the end are reported on stdout.
fn ends_on_a_full_disk(model: Model, directory: &Path) {
    let disk = SmallDisk::mount(directory, SMALL_DISK);
    let (server, log) = server_with_log_in(directory, model);
    fill(&disk, &server);
    server.serves_the_next();
    let printed = server.stop_with_log_elsewhere();
    let (logged, torn) = Followed::new(&log).finish();
    assert_torn_at_most_once(&torn, &printed);
    let lost = lacking(&but_the_last(&printed), &logged);
    assert!(lost > 0, "nothing was lost, so the test proves nothing");
    assert_eq!(dropped(&printed, "file"), lost, "log_gap does not count what was lost");
}

fn finds_and_closes_a_torn_line(directory: &Path) {
    let disk = SmallDisk::mount(directory, SMALL_DISK);
    // Which model wrote the log does not matter to the next writer.
    let (server, log) = server_with_log_in(directory, Model::Event);
    fill(&disk, &server);
    server.serves_the_next();
    server.signal(Signal::KILL);
    drop(server);
    let left = fs::read(&log).expect("read the log file");
    assert_ne!(left.last(), Some(&b'\n'), "no line was torn, so the test proves nothing");
    disk.resize(ENOUGH_DISK);
    let log_text = log.display().to_string();
    let next = Home::new();
    let demo = next.trustctl(["--log-file", &log_text, "log", "demo", "after"]).run();
    let printed = demo.exits_with(0).complains_about_nothing().events();
    let (logged, torn) = Followed::new(&log).finish();
    assert_eq!(torn.len(), 1, "one torn line expected: {torn:?}");
    let last = &logged[logged.len() - printed.len()..];
    assert_eq!(lines(last), lines(&printed), "the next run's events are not the last ones");
}

/// A server that logs there, in long lines.
#[track_caller]
fn server_with_log_in(directory: &Path, model: Model) -> (Server, PathBuf) {
    let log = directory.join("trustctl.log");
    let home = Home::new();
    home.configure(&long_lines());
    let log_text = log.display().to_string();
    (Server::of_in(model, home, ["--log-file", &log_text]), log)
}

/// Makes the server log until nothing more fits.
#[track_caller]
fn fill(disk: &SmallDisk<'_>, server: &Server) {
    for _ in 0..MANY_CONNECTIONS {
        if disk.is_full() {
            return;
        }
        server.serves_the_next();
    }
    panic!("the disk did not fill");
}

fn log_path_impossible(model: Model) {
    if model == Model::Inetd {
        return programs::have_no_log();
    }
    // A server that bound before checking the log would find the port in use: 69 instead of 73.
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("listen on any port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let home = Home::new();
    let serve = ["echo-server", "--port", &port, "--model", model.name()];
    home.trustctl(serve).run().exits_with(69).complains_in_one_line();

    let home = Home::new();
    let in_a_file = home.elsewhere("file/trustctl.log").display().to_string();
    fs::write(home.elsewhere("file"), "in the way").expect("write a file");
    let refused = home.trustctl(serve).args(["--log-file", &in_a_file]).run();
    refuses_the_log(refused, "file/trustctl.log");

    fs::create_dir_all(home.path()).expect("make the home");
    fs::write(home.path().join("logs"), "in the way").expect("write a file");
    refuses_the_log(home.trustctl(serve).run(), "home/logs");

    let home = Home::new();
    fs::write(home.path(), "in the way").expect("write a file");
    let refused = home.trustctl(serve).run().exits_with(73);
    refuses_the_log(refused, "home/logs");
    assert_eq!(fs::read(home.path()).expect("read a file"), b"in the way");
}

/// Checks that a server exited with 73 without having listened, and named the path.
#[track_caller]
fn refuses_the_log(refused: Finished, path: &str) {
    let refused = refused.exits_with(73).complains_about(&["error: ", path]);
    let refused = refused.complains_in_one_line();
    let events = refused.events();
    event::check_run(&events);
    assert_eq!(event::only(&events, "error").count("exit"), 73);
    assert!(event::named(&events, "server_start").is_empty(), "{events:?}");
}

fn stdout_is_never_read(model: Model) {
    let (mut reader, writer) = io::pipe().expect("make a pipe");
    let mut server = LoggingServer::start(model, writer);
    server.serves(MANY_CONNECTIONS);
    let logged = server.stops();
    // Everything that reached stdout is whole lines, except perhaps the last one.
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).expect("read what the server printed");
    let whole = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let printed = event::parse_all(&printed[..whole], "stdout");
    assert_eq!(lacking(&printed, &logged), 0, "stdout has what the file lacks");
    let lost = lacking(&but_the_last(&logged), &printed);
    assert!(lost > 0, "nothing was lost, so the test proves nothing");
    assert_eq!(dropped(&logged, "stdout"), lost, "log_gap does not count what was lost");

    // A late reader gets everything except what a gap counts.
    let (reader, writer) = io::pipe().expect("make a pipe");
    let mut server = LoggingServer::start(model, writer);
    server.serves(MANY_CONNECTIONS);
    let mut late = Output::collect(reader);
    server.serves(FEW_CONNECTIONS);
    let logged = server.stops();
    let printed = late.wait_for_end(STEP_DEADLINE).expect("stdout ends with the server");
    let printed = event::parse_all(&printed, "stdout");
    let lost = lacking(&but_the_last(&logged), &printed);
    assert!(lost > 0, "nothing was lost, so the test proves nothing");
    // A child that ended before anything was read has reported it elsewhere.
    let told = dropped(&printed, "stdout") + dropped(&logged, "stdout");
    assert_eq!(told, lost, "log_gap does not count what was lost");

    // A reader that went away, and a stdout that always fails.
    let (reader, writer) = io::pipe().expect("make a pipe");
    drop(reader);
    let mut server = LoggingServer::start(model, writer);
    server.serves(FEW_CONNECTIONS);
    server.stops();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
    let mut server = LoggingServer::start(model, full);
    server.serves(FEW_CONNECTIONS);
    server.stops();
}

/// A pipe holds four such lines, three of the server and the child's first one, and a part of the
/// child's last one.
fn a_child_that_ends_leaves_no_part_of_a_line() {
    let (reader, writer) = io::pipe().expect("make a pipe");
    let home = Home::new();
    home.configure(&lines_of(13_000));
    let launch = home.trustctl(["echo-server"]).args(Model::Process.flags());
    let running = launch.stdout(writer).start();
    let mut file = Followed::new(&home.log_file());
    let address = address(&file.wait_for("server_start", |_| true));
    all_are_served(vec![Peer::connect(address)]);
    file.wait_for("child_exit", |_| true);
    let mut late = Output::collect(reader);
    running.signal(Signal::TERM);
    running.wait().exits_with(0).complains_about_nothing();
    let printed = late.wait_for_end(STEP_DEADLINE).expect("stdout ends with the server");
    let (printed, (logged, _)) = (event::parse_all(&printed, "stdout"), file.finish());
    let lost = lacking(&but_the_last(&logged), &printed);
    assert!(lost > 0, "nothing was lost, so the test proves nothing");
    let told = dropped(&printed, "stdout") + dropped(&logged, "stdout");
    assert_eq!(told, lost, "log_gap does not count what was lost");
}

/// A server whose stdout is useless: it is observed through its log file.
struct LoggingServer {
    running: Running,
    _home: Home,
    address: SocketAddr,
    file: Followed,
    witness: Option<Witness>,
    /// Clients served at the same time.
    at_once: usize,
}

impl LoggingServer {
    #[track_caller]
    fn start(model: Model, stdout: impl Into<Stdio>) -> LoggingServer {
        let home = Home::new();
        home.configure(&long_lines());
        let launch = home.trustctl(["echo-server"]).args(model.flags());
        let running = launch.stdout(stdout).start();
        let mut file = Followed::new(&home.log_file());
        let address = address(&file.wait_for("server_start", |_| true));
        // The iterative model serves no one else meanwhile.
        let witness = model.serves_several().then(|| Witness::connect(address));
        let at_once = if model.has_children() { CHILDREN_AT_ONCE } else { 1 };
        LoggingServer { running, _home: home, address, file, witness, at_once }
    }

    /// Serves this many clients, and logs all of them.
    #[track_caller]
    fn serves(&mut self, connections: usize) {
        for begun in (0..connections).step_by(self.at_once) {
            let group = (begun..connections).take(self.at_once);
            let peers = group.map(|_| Peer::connect(self.address)).collect();
            for address in all_are_served(peers) {
                let address = address.to_string();
                let mut close = None;
                kernel::wait_until("the close in the file", || {
                    let is_its_own = |event: &Event| event.text("peer") == address;
                    close = self.file.find("client_close", is_its_own);
                    close.is_some()
                });
                let close = close.expect("it has come");
                assert_eq!(close.text("reason"), "peer_fin", "{close:?}");
            }
        }
        if let Some(witness) = &self.witness {
            witness.is_well();
        }
    }

    /// Stops the server; returns everything that it logged, checked.
    #[track_caller]
    fn stops(self) -> Vec<Event> {
        if let Some(witness) = self.witness {
            witness.leaves();
        }
        self.running.signal(Signal::TERM);
        self.running.wait().exits_with(0).complains_about_nothing();
        let (logged, torn) = self.file.finish();
        assert!(torn.is_empty(), "torn lines in the file: {torn:?}");
        assert_eq!(dropped(&logged, "file"), 0, "the file misses something");
        event::check_run(&logged);
        event::check_connections(&logged);
        assert_eq!(event::only(&logged, "cmd_finish").count("exit"), 0);
        logged
    }
}

fn hostile_text() {
    let forged = r#"{"ts":"2026-01-01T00:00:00.000Z","level":"info","event":"forged"}"#;
    let texts: [Vec<u8>; 12] = [
        b"two\nlines".to_vec(),
        format!("\n{forged}\n").into_bytes(),
        format!("\",\"event\":\"forged\",\"x\":{forged}").into_bytes(),
        b"\r\n\t\x0b\x0c\x08".to_vec(),
        b"\x1b[2J\x1b]0;title\x07".to_vec(),
        // DEL, NEL and CSI: control characters to a terminal, but not to JSON.
        "\u{7f}\u{85}\u{9b}31m".into(),
        "\u{2028}\u{2029}\u{feff}\u{202e}".into(),
        b"\\u0000\\n\\".to_vec(),
        b"\xff\xfe\x80".to_vec(),
        b"cut \xf0\x9f\x98".to_vec(),
        b"\xed\xa0\x80 half a surrogate".to_vec(),
        (1..=255).collect(),
    ];
    for text in &texts {
        let text = OsStr::from_bytes(text);
        let shown = text.to_string_lossy();
        let home = Home::new();
        let demo = |args: [&OsStr; 2], variable: Option<&OsStr>| {
            let launch = home.trustctl(["log", "demo"]).args(args);
            let launch = match variable {
                Some(value) => launch.env("TRUST_REQUEST_ID", value),
                None => launch,
            };
            let events = launch.run().exits_with(0).complains_about_nothing().events();
            event::check_run(&events);
            assert_eq!(events.len(), 3, "{events:?}");
            assert_eq!(event::only(&events, "log_demo").text("message"), shown);
            events
        };
        let [dashes, request_id] = ["--", "--request-id="].map(OsStr::new);
        demo([dashes, text], None);
        let by_flag = demo([&joined(request_id, text), &joined(OsStr::new(""), text)], None);
        let by_variable = demo([dashes, text], Some(text));
        for event in by_flag.iter().chain(&by_variable) {
            assert_eq!(event.request_id(), shown);
        }
        assert_eq!(home.logged().len(), 9, "the file has other lines than stdout");
        refuses_hostile_text(text);
    }
}

/// No argument can contain NUL, but the file can.
fn serves_under_a_hostile_name(model: Model) {
    let home = Home::new();
    home.configure("request-id = \"\\u0000\\n\\u007F\\u009B\"\n");
    let server = Server::of_in(model, home, NO_FLAGS);
    server.serves_the_next();
    for event in server.stop() {
        assert_eq!(event.request_id(), "\0\n\u{7f}\u{9b}");
    }
}

/// Each error is reported in one line on stderr and one in the log.
#[track_caller]
fn refuses_hostile_text(text: &OsStr) {
    let home = Home::new();
    let unknown_command = home.trustctl([text]).run().exits_with(64);
    let bad_value = home.trustctl(["hold", "--seconds"]).args([text]).run().exits_with(64);
    let unknown_host = home.echo_client([text]).args(["7", "hi"]).run();
    for (refused, prints_events) in
        [(unknown_command, true), (bad_value, true), (unknown_host, false)]
    {
        let refused = refused.complains_in_one_line();
        let is_raw = |char: char| char.is_control() && char != '\n';
        assert!(!refused.stderr.contains(is_raw), "a control character in {:?}", refused.stderr);
        let events = refused.events();
        if prints_events {
            event::check_run(&events);
            event::only(&events, "error");
        } else {
            assert!(events.is_empty(), "{events:?}");
        }
    }
    let logged = home.logged();
    assert_eq!(event::named(&logged, "error").len(), 3, "{logged:?}");
    assert_eq!(event::named(&logged, "cmd_finish").len(), 3, "{logged:?}");
}

fn bad_flags_ports_and_rights(model: Model) {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("listen on any port");
    let address = taken.local_addr().expect("its address");
    let taken_port = address.port().to_string();
    // A server that bound before checking a flag would find the port in use: 69 instead of 64.
    let on_taken = |flags: &[&'static str]| [&["--port", &taken_port], flags].concat().join(" ");
    let refused = [
        ("--port 65536".to_owned(), 64, ["--port", "65536"]),
        ("--port -1".to_owned(), 64, ["--port", "-1"]),
        (on_taken(&["--timeout", "-1"]), 64, ["--timeout", "-1"]),
        (on_taken(&["--timeout", "nan"]), 64, ["--timeout", "nan"]),
        (on_taken(&["--timeout", "inf"]), 64, ["--timeout", "inf"]),
        (on_taken(&["--timeout", "0.0001"]), 64, ["--timeout", "0.0001"]),
        (on_taken(&["--timeout", "1", "--timeout", "2"]), 64, ["duplicate", "--timeout"]),
        (on_taken(&["--prot", "raw"]), 64, ["--prot", "--help"]),
        (on_taken(&[]), 69, ["in use", &taken_port]),
    ];
    for (flags, code, words) in &refused {
        let home = Home::new();
        let args = ["echo-server", "--model", model.name()].into_iter().chain(flags.split(' '));
        refuses_to_serve(home.trustctl(args).run(), *code, words);
    }
    let home = Home::new();
    home.configure("[echo-server]\ntimeuot = 1\n");
    let args = ["echo-server", "--model", model.name(), "--port", &taken_port];
    refuses_to_serve(home.trustctl(args).run(), 78, &["config.toml", "timeuot"]);
    // The port's owner is not disturbed.
    Peer::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())));
    assert!(taken.accept().is_ok());
    let network = Network::create();
    network.inside(|| port_not_permitted(model));
}

/// In a private network, where ports below 2000 are for privileged users.
fn port_not_permitted(model: Model) {
    const UNPRIVILEGED: u32 = 65_534;
    const FORBIDDEN_PORT: &str = "1999";
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "2000").expect("forbid ports");
    let home = Home::new();
    let serve = |port| ["echo-server", "--model", model.name(), "--port", port];
    let refused = home.trustctl_as(UNPRIVILEGED, serve(FORBIDDEN_PORT)).run();
    refuses_to_serve(refused, 77, &["ermission denied", FORBIDDEN_PORT]);
    // The port is the reason: the same user may have the next one, and root this one.
    let allowed = home.trustctl_as(UNPRIVILEGED, serve("2000")).start();
    allowed.wait_for_event("server_start", |_| true, STEP_DEADLINE);
    allowed.signal(Signal::TERM);
    allowed.wait().exits_with(0);
    let roots = Home::new();
    let allowed = roots.trustctl(serve(FORBIDDEN_PORT)).start();
    allowed.wait_for_event("server_start", |_| true, STEP_DEADLINE);
    allowed.signal(Signal::TERM);
    allowed.wait().exits_with(0);
}

/// Checks that the server exited with one clear line and this code, and never listened.
#[track_caller]
fn refuses_to_serve(refused: Finished, code: u16, words: &[&str]) {
    let refused = refused.exits_with(code.into()).complains_about(words).complains_in_one_line();
    assert!(refused.stderr.starts_with("error: "), "{:?}", refused.stderr);
    let events = refused.events();
    event::check_run(&events);
    assert_eq!(event::only(&events, "error").count("exit"), u64::from(code));
    assert_eq!(event::only(&events, "cmd_finish").count("exit"), u64::from(code));
    assert!(event::named(&events, "server_start").is_empty(), "{events:?}");
}

/// Streams that a shell closes when it starts a program.
const CLOSED_STREAMS: [&str; 4] = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"];

fn standard_streams_closed(model: Model) {
    for closed in CLOSED_STREAMS {
        let home = Home::new();
        let args = ["echo-server"].iter().chain(model.flags());
        let running = home.trustctl_in_shell(&closing(closed), args).start();
        let start = Followed::new(&home.log_file()).wait_for("server_start", |_| true);
        let mut peers = [(); 3].map(|()| Peer::connect(address(&start)));
        // The iterative model serves one after another.
        for peer in &mut peers {
            peer.send_frame(b"only this");
            peer.receives_frame(b"only this");
            assert_no_standard_stream_is_a_socket(&running);
            peer.half_close();
            // Nothing that the server prints reaches a client.
            peer.receives_end();
        }
        running.signal(Signal::TERM);
        running.wait().exits_with(0).complains_about_nothing();
        let logged = home.logged();
        event::check_run(&logged);
        event::check_connections(&logged);
        let connects = event::named(&logged, "client_connect");
        assert_eq!(connects.len(), peers.len(), "{connects:?}");
        assert!(connects.iter().all(|connect| connect.count("client_fd") > 2), "{connects:?}");
    }
}

/// The line of shell that closes these standard streams when it starts the program.
fn closing(streams: &str) -> String {
    format!("exec \"$0\" \"$@\" {streams}")
}

/// Nothing that the client prints goes into its connection.
fn client_prints_nowhere_else() {
    CLOSED_STREAMS.into_iter().for_each(client_without);
}

fn client_without(closed: &str) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on any port");
    let port = listener.local_addr().expect("its address").port().to_string();
    let home = Home::new();
    let args = ["echo-client", "127.0.0.1", &port, "print this"];
    let running = home.trustctl_in_shell(&closing(closed), args).start();
    let (mut stream, _) = listener.accept().expect("the client connects");
    stream.set_read_timeout(Some(STEP_DEADLINE)).expect("set the receive timeout");
    let expected = frame(b"print this");
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).expect("the client sends its frame");
    assert_no_standard_stream_is_a_socket(&running);
    io::Write::write_all(&mut stream, &received).expect("answer");
    stream.read_to_end(&mut received).expect("the client ends with an orderly close");
    assert_eq!(received, expected, "more than the frame was sent");
    let has_stdout = closed.split(' ').all(|stream| stream != ">&-");
    running.wait().exits_with(0).prints(if has_stdout { "print this\n" } else { "" });
}

#[track_caller]
fn assert_no_standard_stream_is_a_socket(running: &Running) {
    for number in 0..=2 {
        let link = fs::read_link(format!("/proc/{}/fd/{number}", running.pid()));
        let Ok(target) = link else { continue };
        let target = target.display().to_string();
        assert!(!target.starts_with("socket:"), "descriptor {number} is {target}");
    }
}

/// Checks that at most one line is torn, and is the beginning of a line that was printed too.
#[track_caller]
fn assert_torn_at_most_once(torn: &[String], printed: &[Event]) {
    assert!(torn.len() <= 1, "more than one torn line: {torn:?}");
    let begins = |part: &String| printed.iter().any(|event| event.line().starts_with(part));
    assert!(torn.iter().all(begins), "a line that no process wrote: {torn:?}");
}

/// The server's address for this host.
fn address(server_start: &Event) -> SocketAddr {
    let port = u16::try_from(server_start.count("port")).expect("a port fits into 16 bits");
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// How many of the events are missing from `others`; a gap is in one place only.
fn lacking(events: &[Event], others: &[Event]) -> u64 {
    let others: BTreeSet<&str> = lines(others).into_iter().collect();
    let events = events.iter().filter(|event| event.name() != "log_gap");
    events.filter(|event| !others.contains(event.line())).count() as u64
}

/// All but `cmd_finish`, which comes after the gap that is reported at the end if a sink is given
/// up.
fn but_the_last(events: &[Event]) -> Vec<Event> {
    events[..events.len() - 1].to_vec()
}

/// How many lines were lost, according to the gaps of that sink.
#[track_caller]
fn dropped(events: &[Event], sink: &str) -> u64 {
    let gaps = event::named(events, "log_gap");
    assert!(gaps.iter().all(|gap| gap.text("level") == "error"), "{gaps:?}");
    let of_sink = gaps.iter().filter(|gap| gap.text("sink") == sink);
    of_sink.map(|gap| gap.count("dropped")).sum()
}

fn lines(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::line).collect()
}

fn joined(start: &OsStr, end: &OsStr) -> OsString {
    let mut both = start.to_owned();
    both.push(end);
    both
}
