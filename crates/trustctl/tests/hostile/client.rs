//! The client's messages and exit codes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ChildStdin;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, SockRef, Socket, Type};

use super::case::Case;
use super::hosts::{LONG_TIMEOUTS, Site};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event;
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::net::{Detour, Hosts, Network, connection, connections, unreachables_received};
use trust_testkit::peer::frame;
use trust_testkit::program::{Home, Running};
use trust_testkit::server::{NO_FLAGS, Server};

pub(crate) const CASES: &[Case] = &[
    Case::new("server killed while client waits", server_killed_while_waiting)
        .alias(48)
        .and_once(a_server_resets_while_the_client_waits),
    Case::new("server killed or resets, owing", server_killed_while_owing)
        .alias(49)
        .and_once(a_server_ends_while_owing),
    Case::new("server's host vanishes, owing", servers_host_vanishes).alias(50),
    Case::new("server's host rebooted", servers_host_rebooted).alias(51),
    Case::once(
        "unreachable, refused, unknown name",
        nobody_answers,
        "no server of ours takes part",
    )
    .alias(52),
    Case::new("server shuts down, owing", server_shuts_down).alias(53),
];

/// A limit that does not matter: waiting for it would exceed [`STEP_DEADLINE`].
const PATIENT: [&str; 2] = ["--timeout", "60"];

/// A limit that a test can wait for.
const TIMEOUT: Duration = Duration::from_secs(2);
const SHORT_TIMEOUT: [&str; 2] = ["--timeout", "2"];

/// The client's messages when the server went away, while nothing was owed and while an answer was.
const CLOSED_IDLE: [&str; 2] = ["closed the connection", "while nothing was owed"];
const CLOSED_OWING: [&str; 2] = ["closed the connection", "while an answer was owed"];
const RESET_IDLE: [&str; 2] = ["reset the connection", "while nothing was owed"];
const RESET_OWING: [&str; 2] = ["reset the connection", "while an answer was owed"];

fn server_killed_while_waiting(model: Model) {
    let server = Server::of(model, NO_FLAGS);
    let client = Client::waits_for_input(server.address(), "first");
    server.kill();
    client.ends(69, "first\n", &CLOSED_IDLE);
}

fn a_server_resets_while_the_client_waits() {
    let script = |mut stream: TcpStream| {
        echo(&mut stream, "first");
        reset(stream);
    };
    with_scripted_server(script, |server| {
        Client::waits_for_input(server, "first").ends(69, "first\n", &RESET_IDLE);
    });
}

fn server_killed_while_owing(model: Model) {
    let server = Server::of(model, NO_FLAGS);
    let mut client = Client::waits_for_input(server.address(), "first");
    server.pause();
    client.types("second");
    wait_until_unread(&server, "second");
    server.kill();
    // The kernel discards bytes that the server had not read, and so sends an RST.
    client.ends(76, "first\n", &RESET_OWING);
}

fn a_server_ends_while_owing() {
    // How much of the second answer comes, and whether an RST follows.
    for (answered, resets) in [(0, false), (7, false), (0, true), (7, true)] {
        let script = move |mut stream: TcpStream| {
            echo(&mut stream, "first");
            let second = receive(&mut stream, "second");
            stream.write_all(&second[..answered]).expect("answer");
            if resets {
                reset(stream);
            }
        };
        with_scripted_server(script, |server| {
            let mut client = Client::waits_for_input(server, "first");
            client.types("second");
            client.ends(76, "first\n", if resets { &RESET_OWING } else { &CLOSED_OWING });
        });
    }
}

fn servers_host_vanishes(model: Model) {
    let site = Site::start(model, LONG_TIMEOUTS);
    let connect = || Client::with(site.address(), SHORT_TIMEOUT);
    let mut client = site.hosts.client.inside(|| connect().served("first"));
    let unreachable = peer(&site, &client);
    site.hosts.turn_away_from(Hosts::SERVER, Detour::Unreachable);
    let began = Instant::now();
    client.types("second");
    site.hosts.client.inside(|| {
        kernel::wait_until("the client's host being told", || unreachables_received() > 0);
    });
    // From now on there is no news about why no answer comes.
    site.hosts.cut();
    client.ends(75, "first\n", &["sent nothing for 2 s (No route to host)", "answer was owed"]);
    assert_not_early(began);
    site.hosts.turn_back_to(Hosts::SERVER, Detour::Unreachable);
    site.hosts.heal();
    gets_the_rest(&site, unreachable);

    let mut client = site.hosts.client.inside(|| connect().served("first"));
    let vanished = peer(&site, &client);
    site.hosts.cut();
    let began = Instant::now();
    client.types("second");
    let latecomer = site.hosts.client.inside(connect);
    client.ends(75, "first\n", &["sent nothing for 2 s while an answer was owed"]);
    assert_not_early(began);
    latecomer.ends(75, "", &["cannot connect", "no answer within 2 s"]);
    assert_not_early(began);
    site.hosts.heal();
    gets_the_rest(&site, vanished);
    site.ends();
}

/// Waits until the server has the bytes that a client's kernel had not delivered when the client
/// ended. Its answer meets a FIN, or no one at all.
#[track_caller]
fn gets_the_rest(site: &Site, peer: SocketAddr) {
    let close = site.server.event_about(peer, "client_close");
    let reasons = ["peer_fin", "client_reset", "broken_pipe"];
    assert!(reasons.contains(&close.text("reason")), "{close:?}");
    assert_eq!(close.count("frames_in"), 2, "{close:?}");
}

fn servers_host_rebooted(model: Model) {
    let mut site = Site::start(model, LONG_TIMEOUTS);
    // The host has forgotten the connection; a server listens there again, or does not.
    for is_listening in [true, false] {
        let start = || Client::waits_for_input(site.address(), "first");
        let mut client = site.hosts.client.inside(start);
        let peer = peer(&site, &client);
        site.hosts.cut();
        site.hosts.server.forget_connections_to(peer);
        // The server learns that its socket was destroyed.
        let aborted = site.server.event_about(peer, "io_error");
        assert_eq!(aborted.text("errno_name"), "ECONNABORTED", "{aborted:?}");
        site.server.closes(peer, "io_error");
        if is_listening {
            site.is_well();
        } else {
            if let Some(witness) = site.witness.take() {
                witness.leaves();
            }
            site.server.kill();
        }
        site.hosts.heal();
        let (own, other) = (peer.port(), site.server.port());
        let known = site.hosts.client.inside(|| connection(own, other));
        assert!(known.is_some(), "the client learnt of the reboot before it sent anything");
        client.types("second");
        client.ends(76, "first\n", &RESET_OWING);
    }
}

fn nobody_answers() {
    let hosts = Hosts::create();
    let server = SocketAddr::from((Hosts::SERVER, 7));
    let unreachable = ["cannot connect", "No route to host"];
    hosts.turn_away_from(Hosts::SERVER, Detour::Unreachable);
    let client = hosts.client.inside(|| Client::with(server, PATIENT));
    client.ends(69, "", &unreachable);
    hosts.client.ip("route add unreachable 203.0.113.1\n");
    let server = SocketAddr::from(([203, 0, 113, 1], 7));
    let client = hosts.client.inside(|| Client::with(server, PATIENT));
    client.ends(69, "", &unreachable);
    let client = Network::create().inside(|| Client::with(server, PATIENT));
    client.ends(69, "", &["cannot connect", "Network is unreachable"]);

    // A port that no one else can take, and that has no listener.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("make a socket");
    bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind it");
    let server = bound.local_addr().expect("its address").as_socket().expect("an IP address");
    let refused = ["cannot connect", "Connection refused"];
    Client::with(server, PATIENT).ends(69, "", &refused);

    // Longer than a DNS label may be, so that no name server is asked.
    let name = format!("{}.invalid", "x".repeat(64));
    let client = Client::start(&name, "7", PATIENT);
    client.ends(68, "", &["cannot resolve host", &name]);
}

fn server_shuts_down(model: Model) {
    // More input may come when the server is told to stop.
    let server = Server::of(model, NO_FLAGS);
    let mut waiting = Client::waits_for_input(server.address(), "first");
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, waiting.port(server.port())));
    server.pause();
    waiting.types("second");
    wait_until_unread(&server, "second");
    server.signal(Signal::TERM);
    server.resume();
    waiting.ends(69, "first\nsecond\n", &CLOSED_IDLE);
    server.closes(peer, "drain");
    ends_drained(server);

    // The input has ended; this client is still in the backlog.
    let server = Server::of(model, NO_FLAGS);
    server.pause();
    let mut complete = Client::with(server.address(), PATIENT);
    complete.types("only");
    complete.input = None;
    wait_until_unread(&server, "only");
    server.signal(Signal::TERM);
    server.resume();
    complete.ends(0, "only\n", &[]);
    ends_drained(server);
}

/// Checks the end of a server that was told to stop and had only one client.
#[track_caller]
fn ends_drained(server: Server) {
    let events = server.has_stopped(0);
    assert_eq!(event::drained_and_cut(&events).1, 0);
    let close = event::only(&events, "client_close");
    // A client that has everything may leave before the server has noticed the signal.
    assert!(["drain", "peer_fin"].contains(&close.text("reason")), "{close:?}");
    assert_eq!(close.count("frames_in"), close.count("frames_out"), "{close:?}");
}

/// Waits until only that line is in a receive queue of the server, which is stopped.
#[track_caller]
fn wait_until_unread(server: &Server, line: &str) {
    let (port, sent) = (server.port(), frame(line.as_bytes()).len() as u64);
    kernel::wait_until("the frame being at the server's host", || {
        !connections(|end| end.own_port == port && end.unread == sent).is_empty()
    });
}

/// The address of a client on the client's host.
#[track_caller]
fn peer(site: &Site, client: &Client) -> SocketAddr {
    let port = site.hosts.client.inside(|| client.port(site.server.port()));
    SocketAddr::from((Hosts::CLIENT, port))
}

/// `echo-client` with a pipe as its standard input.
struct Client {
    running: Running,
    input: Option<ChildStdin>,
    home: Home,
}

impl Client {
    #[track_caller]
    fn start<const N: usize>(host: &str, port: &str, flags: [&str; N]) -> Client {
        let home = Home::new();
        let (running, input) = home.echo_client([host, port]).args(flags).start_with_input();
        Client { running, input: Some(input), home }
    }

    #[track_caller]
    fn with<const N: usize>(server: SocketAddr, flags: [&str; N]) -> Client {
        Client::start(&server.ip().to_string(), &server.port().to_string(), flags)
    }

    /// A client that has had one line echoed, and has plenty of time.
    #[track_caller]
    fn waits_for_input(server: SocketAddr, line: &str) -> Client {
        Client::with(server, PATIENT).served(line)
    }

    #[track_caller]
    fn served(mut self, line: &str) -> Client {
        self.types(line);
        self.running.wait_for_output(line.len() + 1);
        self
    }

    #[track_caller]
    fn types(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input has not ended");
        input.write_all(format!("{line}\n").as_bytes()).expect("type a line");
    }

    /// The port of the client's end, in the network of the calling thread, where it must be the
    /// server's only client.
    #[track_caller]
    fn port(&self, server_port: u16) -> u16 {
        let ends = connections(|end| end.other_port == server_port);
        assert_eq!(ends.len(), 1, "{ends:?}");
        ends[0].own_port
    }

    /// Checks how the client ends on its own: its exit code, its stdout, and a message on stderr
    /// with these words that is also in its log.
    #[track_caller]
    fn ends(self, code: u16, printed: &str, words: &[&str]) {
        // The client would wait for input that stays open.
        let Client { running, input, home } = self;
        let finished = running.wait().exits_with(code.into()).prints(printed);
        drop(input);
        let logged = home.logged();
        event::check_run(&logged);
        assert_eq!(event::only(&logged, "cmd_finish").count("exit"), u64::from(code));
        if code == 0 {
            finished.complains_about_nothing();
            return;
        }
        let finished = finished.complains_in_one_line().complains_about(words);
        let error = event::only(&logged, "error");
        assert_eq!(error.count("exit"), u64::from(code));
        assert_eq!(finished.stderr, format!("error: {}\n", error.text("message")));
    }
}

/// Runs a server that treats its only client as `script` says, in parallel with `test`.
fn with_scripted_server(script: impl FnOnce(TcpStream) + Send, test: impl FnOnce(SocketAddr)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on any port");
    let address = listener.local_addr().expect("its address");
    thread::scope(|scope| {
        scope.spawn(move || {
            let (stream, _) = listener.accept().expect("the client connects");
            stream.set_read_timeout(Some(STEP_DEADLINE)).expect("set the receive timeout");
            script(stream);
        });
        test(address);
    });
}

/// Receives that line as a frame, in place of the server.
#[track_caller]
fn receive(stream: &mut TcpStream, line: &str) -> Vec<u8> {
    let expected = frame(line.as_bytes());
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).expect("the client sends a frame");
    assert_eq!(received, expected);
    received
}

#[track_caller]
fn echo(stream: &mut TcpStream, line: &str) {
    let received = receive(stream, line);
    stream.write_all(&received).expect("answer");
}

/// Closes with RST.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
}

#[track_caller]
fn assert_not_early(began: Instant) {
    let waited = began.elapsed();
    assert!(waited >= TIMEOUT, "gave up after {waited:?}, before its limit");
}
