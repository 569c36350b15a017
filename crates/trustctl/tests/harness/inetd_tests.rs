//! The echo server on descriptor 0, as started by a super-server.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use rustix::fs::OFlags;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use trust_testkit::event::{self, Event};
use trust_testkit::followed::Followed;
use trust_testkit::kernel;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::program::{Finished, Home, Launch, Running};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    test_inetd_echo,
    test_inetd_exit_codes,
    test_inetd_signals,
    test_inetd_client_gone,
    test_inetd_no_connection,
    test_inetd_settings,
];

/// A server on a client's connection, and the client.
struct Served {
    home: Home,
    peer: Peer,
    /// A duplicate of the server's socket, as its super-server might keep one.
    kept: TcpStream,
    running: Running,
}

/// A connection: the client's end, and the other one.
fn connection() -> (Peer, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let peer = Peer::connect(listener.local_addr().expect("it has an address"));
    let (stream, _) = listener.accept().expect("it is connected");
    (peer, stream)
}

fn inetd(home: &Home, flags: &[&str]) -> Launch {
    home.trustctl(["echo-server", "--inetd"]).args(flags)
}

/// Puts the connection on descriptors 0, 1 and 2.
fn on_all_three(launch: Launch, stream: &TcpStream) -> Launch {
    let copy = || OwnedFd::from(stream.try_clone().expect("a descriptor"));
    launch.stdin(copy()).stdout(copy()).stderr(copy())
}

impl Served {
    #[track_caller]
    fn start(flags: &[&str]) -> Served {
        Served::start_in(Home::new(), flags)
    }

    #[track_caller]
    fn start_in(home: Home, flags: &[&str]) -> Served {
        let (peer, kept) = connection();
        let running = on_all_three(inetd(&home, flags), &kept).start();
        Served { home, peer, kept, running }
    }

    /// Like [`Served::start`]; returns when it serves.
    #[track_caller]
    fn start_and_echo(flags: &[&str]) -> Served {
        let mut served = Served::start(flags);
        served.peer.send_frame(b"first");
        served.peer.receives_frame(b"first");
        served
    }

    /// Waits for the end of the server; checks its exit code, its log and why the connection ended.
    #[track_caller]
    fn ends(self, code: i32, reason: &str) -> Event {
        self.running.wait().exits_with(code);
        closed(&self.home, self.peer.address(), reason)
    }
}

/// Checks the log of a run with one connection.
#[track_caller]
fn closed(home: &Home, peer: SocketAddr, reason: &str) -> Event {
    let events = home.logged();
    event::check_run(&events);
    event::check_connections(&events);
    for name in ["server_start", "client_connect", "server_stop"] {
        event::only(&events, name);
    }
    let close = event::only(&events, "client_close");
    assert_eq!(close.text("reason"), reason, "{close:?}");
    assert_eq!((close.count("conn"), close.text("peer")), (1, &*peer.to_string()), "{close:?}");
    close.clone()
}

fn test_inetd_echo() {
    let payload = pattern(60_000);
    let mut framed = Served::start(&["--log-level", "debug"]);
    let pid = framed.running.pid();
    for _ in 0..50 {
        framed.peer.send_frame(&payload);
        framed.peer.receives_frame(&payload);
    }
    for number in 0..3 {
        let path = fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("it is open");
        assert_eq!(path.to_str(), Some("/dev/null"), "descriptor {number}");
    }
    framed.peer.half_close();
    // Nothing but echoes arrives, however much is logged.
    framed.peer.receives_end();
    let kept = framed.kept.try_clone().expect("a descriptor");
    let close = framed.ends(0, "peer_fin");
    assert_eq!((close.count("frames_in"), close.count("frames_out")), (50, 50), "{close:?}");
    let flags = rustix::fs::fcntl_getfl(&kept).expect("flags can be read");
    assert!(!flags.contains(OFlags::NONBLOCK), "{flags:?}");

    let mut raw = Served::start(&[]);
    raw.peer.send(b"raw test\n");
    raw.peer.half_close();
    raw.peer.receives_to_end(b"raw test\n");
    let close = raw.ends(0, "peer_fin");
    assert_eq!(close.text("mode"), "raw", "{close:?}");
}

fn test_inetd_exit_codes() {
    let mut truncated = Served::start(&[]);
    truncated.peer.send(&frame(b"cut off")[..7]);
    truncated.peer.half_close();
    truncated.peer.receives_end();
    truncated.ends(76, "truncated_frame");

    let mut large = Served::start(&["--mode", "framed"]);
    large.peer.send(&u32::MAX.to_be_bytes());
    large.peer.receives_end();
    large.peer.half_close();
    large.ends(76, "frame_too_large");

    let mut silent = Served::start(&["--timeout", "0.05"]);
    silent.peer.receives_end();
    silent.peer.half_close();
    silent.ends(75, "recv_timeout");

    let mut slow = Served::start(&["--frame-timeout", "0.05"]);
    slow.peer.send(&frame(b"slow")[..6]);
    slow.peer.receives_reset();
    slow.ends(75, "frame_timeout");

    let mut old = Served::start(&["--max-lifetime", "0.05"]);
    old.peer.receives_end();
    old.peer.half_close();
    old.ends(0, "max_lifetime");

    let Served { home, peer, running, kept } = Served::start_and_echo(&[]);
    let address = peer.address();
    peer.reset();
    running.wait().exits_with(76);
    closed(&home, address, "client_reset");
    drop(kept);
}

fn test_inetd_signals() {
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let mut idle = Served::start_and_echo(&[]);
        idle.running.signal(signal);
        idle.peer.receives_end();
        idle.peer.half_close();
        idle.ends(code, "drain");
    }
    for (signal, code) in [(Signal::TERM, 1), (Signal::INT, 130)] {
        let mut cut = Served::start_and_echo(&["--drain-timeout", "0.05"]);
        cut.begins_a_frame();
        cut.running.signal(signal);
        cut.peer.receives_reset();
        cut.ends(code, "drain_timeout");
    }
    let mut twice = Served::start_and_echo(&[]);
    let mut log = Followed::new(&twice.home.log_file());
    twice.begins_a_frame();
    twice.running.signal(Signal::TERM);
    log.wait_for("drain_start", |_| true);
    twice.running.signal(Signal::TERM);
    twice.peer.receives_reset();
    twice.ends(1, "second_signal");

    let mut asked = Served::start_and_echo(&[]);
    let mut log = Followed::new(&asked.home.log_file());
    asked.running.signal(Signal::USR1);
    let stats = log.wait_for("server_stats", |_| true);
    assert_eq!((stats.count("connections"), stats.count("active")), (1, 1), "{stats:?}");
    asked.peer.half_close();
    asked.peer.receives_end();
    asked.ends(0, "peer_fin");
}

impl Served {
    /// Sends the beginning of a frame; returns when the server has read it.
    #[track_caller]
    fn begins_a_frame(&mut self) {
        self.peer.send(&frame(b"never whole")[..9]);
        kernel::wait_until("all bytes being read", || {
            rustix::io::ioctl_fionread(&self.kept).expect("the socket is open") == 0
        });
    }
}

fn test_inetd_client_gone() {
    let home = Home::new();
    let (peer, stream) = connection();
    peer.reset();
    let launch = on_all_three(inetd(&home, &[]), &stream);
    launch.run().exits_with(76);
    closed(&home, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), "client_reset");

    let home = Home::new();
    let (peer, stream) = connection();
    let address = peer.address();
    peer.leave();
    on_all_three(inetd(&home, &[]), &stream).run().exits_with(0);
    closed(&home, address, "peer_fin");
}

fn test_inetd_no_connection() {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let fresh = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    let unix = UnixDatagram::unbound().expect("a socket");
    let file = File::open("/proc/self/exe").expect("the test's own file");
    let null = File::open("/dev/null").expect("it is there");
    let hint = "a listening socket: with --inetd it has to be a connected TCP or unix socket; \
                inetd hands connections over with nowait, systemd with Accept=yes";
    let wrong: [(OwnedFd, &str); 7] = [
        (pipe.into(), "a pipe"),
        (file.into(), "a file"),
        (null.into(), "a device, as /dev/null, or was closed"),
        (unix.into(), "a datagram socket"),
        (udp.into(), "a datagram socket"),
        (fresh.into(), "a socket that is not connected"),
        (listener().into(), hint),
    ];
    for (descriptor, what) in wrong {
        let home = Home::new();
        let finished = inetd(&home, &[]).stdin(descriptor).run();
        let message = refused_without_output(&home, finished);
        assert!(message.starts_with(&format!("descriptor 0 is {what}")), "{message:?}");
    }
    let home = Home::new();
    let closed = home.trustctl_in_shell("exec \"$0\" \"$@\" <&-", ["echo-server", "--inetd"]);
    refused_without_output(&home, closed.run());

    // Users who mix up the two kinds of super-server are told about the other one.
    let home = Home::new();
    let script = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null";
    let launch = home.trustctl_in_shell(script, ["echo-server", "--inetd"]).env("LISTEN_FDS", "1");
    let message = refused_without_output(&home, launch.stdin(OwnedFd::from(listener())).run());
    let hint = "; LISTEN_FDS hands listening sockets over, which are served without --inetd";
    assert!(message.ends_with(hint), "{message:?}");
    let (_peer, stream) = connection();
    let launch = Home::new().trustctl(["echo-server"]).stdin(OwnedFd::from(stream));
    let hint = "--port (descriptor 0 is a connected socket: --inetd serves it)";
    launch.run().exits_with(64).complains_about(&[hint]).complains_in_one_line();

    // Where stderr is that socket too, only the log is told.
    let (other, unix) = UnixDatagram::pair().expect("a pair");
    other.set_nonblocking(true).expect("it is a socket");
    let copy = || OwnedFd::from(unix.try_clone().expect("a descriptor"));
    let home = Home::new();
    let launch = inetd(&home, &[]).stdin(copy()).stdout(copy()).stderr(copy());
    launch.run().exits_with(64);
    let nothing = other.recv(&mut [0]).expect_err("nothing was sent");
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    assert_eq!(event::only(&home.logged(), "error").count("exit"), 64);
}

/// Checks that the run was refused with one line on stderr and the same in the log, and returns it.
#[track_caller]
fn refused_without_output(home: &Home, finished: Finished) -> String {
    let finished = finished.exits_with(64).prints("").complains_in_one_line();
    let events = home.logged();
    event::check_run(&events);
    let message = event::only(&events, "error").text("message").to_owned();
    assert_eq!(finished.stderr, format!("error: {message}\n"));
    message
}

fn test_inetd_settings() {
    let refused: [(&[&str], &[&str]); 5] = [
        (&["--port", "9900"], &["--port cannot be used with --inetd", "descriptor 0"]),
        (&["--host", "localhost"], &["--host cannot be used with --inetd", "descriptor 0"]),
        (&["--model", "iterative"], &["--model 'iterative' cannot", "--inetd", "one connection"]),
        (&["--workers", "2"], &["--workers '2' cannot", "--inetd", "one connection"]),
        (&["--max-clients", "5"], &["--max-clients '5' cannot", "--inetd", "one connection"]),
    ];
    for (flags, words) in refused {
        let home = Home::new();
        let (_peer, stream) = connection();
        let launch = inetd(&home, flags).stdin(OwnedFd::from(stream));
        launch.run().exits_with(64).complains_about(words).complains_in_one_line();
    }
    let home = Home::new();
    let (_peer, stream) = connection();
    let (inetd_variable, port_variable) = ("TRUST_ECHO_SERVER_INETD", "TRUST_ECHO_SERVER_PORT");
    let launch = home.trustctl(["echo-server"]).stdin(OwnedFd::from(stream));
    let launch = launch.env(inetd_variable, "true").env(port_variable, "1");
    launch.run().exits_with(64).complains_about(&[inetd_variable, port_variable]);

    // An error in the command line is not sent to the client either.
    let home = Home::new();
    let (mut peer, stream) = connection();
    let launch = on_all_three(inetd(&home, &["--prot", "1"]), &stream);
    drop(stream);
    launch.run().exits_with(64);
    peer.receives_end();
    assert!(event::only(&home.logged(), "error").text("message").contains("--prot"));

    // The file's settings are for a listening server with the same home.
    let home = Home::new();
    home.configure(
        "[echo-server]\nport = 9900\nhost = \"localhost\"\nmodel = \"iterative\"\n\
         max-clients = 7\n",
    );
    let mut served = Served::start_in(home, &["--model=event", "--workers=1", "--max-clients=1"]);
    served.peer.send_frame(b"shared");
    served.peer.receives_frame(b"shared");
    served.peer.half_close();
    served.peer.receives_end();
    let events = Followed::new(&served.home.log_file()).wait_for("server_start", |_| true);
    assert_eq!((events.count("workers"), events.count("max_clients")), (1, 1), "{events:?}");
    served.ends(0, "peer_fin");
}
