//! Listening sockets passed to the server, and what it reports to the process that passes them.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::time::Duration;

use rustix::process::Signal;

use trust_testkit::STEP_DEADLINE;
use trust_testkit::event;
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, pattern};
use trust_testkit::program::{Home, Launch};
use trust_testkit::server::Server;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    test_listen_fds,
    test_listen_fds_wrong,
    test_restart_refuses_nobody,
    test_notify,
    test_notify_fails,
    test_watchdog,
];

/// Starts the server with descriptors 0 and 2 moved to 3 and 4, as the standard library can only
/// pass the former.
const HANDED_OVER: &str = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 4<&2 </dev/null 2>/dev/null";

/// The same with only descriptor 0.
const ONE_HANDED_OVER: &str = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null";

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it has an address")
}

fn copy(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().expect("a descriptor").into()
}

/// A server that gets this socket.
fn on_listener(home: &Home, listener: &TcpListener, flags: &[&str]) -> Launch {
    let launch = home.trustctl_in_shell(ONE_HANDED_OVER, ["echo-server"]).args(flags);
    launch.env("LISTEN_FDS", "1").stdin(copy(listener))
}

fn start_on(listener: &TcpListener, flags: &[&str]) -> Server {
    let home = Home::new();
    let launch = on_listener(&home, listener, flags);
    Server::start_as(Model::Event, home, launch)
}

fn test_listen_fds() {
    for model in [Model::Event, Model::Iterative, Model::Process] {
        serves_two_handed_over(model);
    }
}

#[track_caller]
fn serves_two_handed_over(model: Model) {
    let [first, second] = [listener(), listener()];
    rustix::net::listen(&second, 5).expect("another backlog");
    let home = Home::new();
    // The file is meant for a server that listens itself.
    home.configure("[echo-server]\nport = 1\nhost = \"192.0.2.1\"\n");
    let words = ["echo-server", "--model", model.name()];
    let launch = home.trustctl_in_shell(HANDED_OVER, words).env("LISTEN_FDS", "2");
    let launch = launch.stdin(copy(&first)).stderr(copy(&second));
    let server = Server::start_as(model, home, launch);
    let start = server.start_event();
    assert_eq!(start.count("port"), u64::from(address(&first).port()), "{start:?}");
    assert_eq!((start.text("addr"), start.count("listeners")), ("127.0.0.1", 2), "{start:?}");
    assert_eq!(start.count("backlog"), 5, "the smallest of the two: {start:?}");
    for number in [3, 4] {
        let path = format!("/proc/{}/fdinfo/{number}", server.pid());
        let info = fs::read_to_string(path).expect("it is open");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
        let flags = u32::from_str_radix(flags.trim(), 8).expect("an octal number");
        assert_ne!(flags & 0o2_000_000, 0, "descriptor {number} is passed on to children");
    }
    // In turn, each while the other one is waiting.
    for mut peer in [&first, &second].map(|listener| Peer::connect(address(listener))) {
        peer.send_frame(b"hello");
        peer.receives_frame(b"hello");
        peer.half_close();
        peer.receives_end();
        server.closes(peer.address(), "peer_fin");
    }
    server.stop();
    // They are unchanged for the next server.
    for listener in [first, second] {
        let _waits = TcpStream::connect(address(&listener)).expect("it still listens");
        assert!(listener.accept().is_ok());
    }
}

fn test_listen_fds_wrong() {
    let refused = |script: &str, count: &str, flags: &[&str], words: &[&str]| {
        let home = Home::new();
        let launch = home.trustctl_in_shell(script, ["echo-server"]).args(flags);
        let launch = launch.env("LISTEN_FDS", count).stdin(copy(&listener()));
        launch.run().exits_with(64).complains_about(words).complains_in_one_line();
    };
    for count in ["17", "99999999999999999999", "-1", "one", "0"] {
        let words = [
            &format!("invalid value '{count}' for LISTEN_FDS"),
            "expected a whole number from 1 to 16",
        ];
        refused(ONE_HANDED_OVER, count, &[], &words);
    }
    let allowed = "expected a listening TCP or unix socket";
    refused(ONE_HANDED_OVER, "2", &[], &["descriptor 4 of LISTEN_FDS is not open", allowed]);
    let pipe = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&1";
    refused(pipe, "1", &[], &["descriptor 3 of LISTEN_FDS is a pipe", allowed]);
    let file = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<\"$0\"";
    refused(file, "1", &[], &["descriptor 3 of LISTEN_FDS is a file", allowed]);
    let word = "LISTEN_PID=self exec \"$0\" \"$@\" 3<&0";
    refused(
        word,
        "1",
        &[],
        &["invalid value 'self' for LISTEN_PID", "expected the number of a process"],
    );
    refused(ONE_HANDED_OVER, "1", &["--port=0"], &["--port '0'", "LISTEN_FDS", "leave it out"]);
    refused(ONE_HANDED_OVER, "1", &["--host=::"], &["--host '::'", "LISTEN_FDS", "leave it out"]);

    let home = Home::new();
    let (_peer, connected) = {
        let listener = listener();
        let peer = TcpStream::connect(address(&listener)).expect("it listens");
        (peer, listener.accept().expect("it is connected").0)
    };
    let launch = home.trustctl_in_shell(ONE_HANDED_OVER, ["echo-server"]).env("LISTEN_FDS", "1");
    let finished = launch.stdin(OwnedFd::from(connected)).run().exits_with(64);
    let words = "a connected socket, as with Accept=yes of systemd, which --inetd serves";
    finished.complains_about(&["descriptor 3 of LISTEN_FDS is", words, allowed]);

    // Variables meant for another process mean nothing to this one.
    let home = Home::new();
    let launch = home.trustctl(["echo-server"]).env("LISTEN_FDS", "many").env("LISTEN_PID", "1");
    let words = "--port (LISTEN_FDS is meant for process 1, this is ";
    let finished = launch.run().exits_with(64).complains_in_one_line();
    finished.complains_about(&["missing required flag: ", words, ": start it with exec)"]);
    let home = Home::new();
    let launch = home.trustctl(["echo-server", "--port", "0"]);
    let launch = launch.env("LISTEN_FDS", "many").env("LISTEN_PID", "1");
    let server = Server::start_as(Model::Event, home, launch);
    assert!(!server.start_event().has("listeners"));
    server.serves_the_next();
    server.stop();
}

/// One server is told to stop while clients are waiting, and another one takes over.
fn test_restart_refuses_nobody() {
    const WAITING: usize = 100;
    for model in ["event", "iterative", "process"] {
        let listener = listener();
        let old = start_on(&listener, &["--model", model]);
        let server = address(&listener);
        let served = |peer: &mut Peer, number: usize| {
            let payload = pattern(1 + number);
            peer.receives_frame(&payload);
            peer.half_close();
            peer.receives_end();
        };
        let ask = |number: usize| {
            let mut peer = Peer::connect(server);
            peer.send_frame(&pattern(1 + number));
            peer
        };
        served(&mut ask(0), 0);
        old.pause();
        let mut waiting: Vec<Peer> = (0..WAITING).map(ask).collect();
        old.signal(Signal::TERM);
        old.signal(Signal::CONT);
        old.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
        // Clients that it had not accepted by then it leaves alone, and ends without them.
        let ended = std::thread::scope(|scope| {
            let ended = scope.spawn(move || old.has_stopped(0));
            let new = start_on(&listener, &["--model", model]);
            for (number, peer) in waiting.iter_mut().enumerate() {
                served(peer, number);
            }
            served(&mut ask(7), 7);
            let (events, own) = (ended.join().expect("it stops"), new.stop());
            let connects = event::named(&own, "client_connect").len();
            assert!(connects > 0, "the new server had no one to serve");
            (event::named(&events, "client_connect").len(), connects)
        });
        assert_eq!(ended.0 + ended.1, WAITING + 2, "{model}: {ended:?}");
    }
}

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(STEP_DEADLINE)).expect("a deadline");
        Manager { socket }
    }

    /// The next message, line by line.
    #[track_caller]
    fn hears(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = match self.socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) => panic!("no message came: {error}"),
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn hears_nothing_more(&self) {
        self.socket.set_nonblocking(true).expect("it can be");
        let more = self.socket.recv(&mut [0; 4096]);
        let nothing = more.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(nothing, "another message came: {more:?}");
    }
}

fn test_notify() {
    let home = Home::new();
    fs::create_dir_all(home.path()).expect("make the home");
    let path = home.path().join("notify");
    let by_path = Manager::new(UnixDatagram::bind(&path).expect("a socket"));
    let name = format!("trustctl-test-{}", std::process::id());
    let abstract_name = UnixAddress::from_abstract_name(&name).expect("a name");
    let by_name = Manager::new(UnixDatagram::bind_addr(&abstract_name).expect("a socket"));
    let (path, name) = (path.display().to_string(), format!("@{name}"));
    for (manager, place, model) in [(by_path, path, "event"), (by_name, name, "iterative")] {
        let home = Home::new();
        let launch =
            home.trustctl(["echo-server", "--port=0", "--host=127.0.0.1", "--model", model]);
        let server = Server::start_as(Model::Event, home, launch.env("NOTIFY_SOCKET", &place));
        let status = format!("STATUS=Serving on {}", server.address());
        let pid = format!("MAINPID={}", server.pid());
        // The server is serving by then.
        assert_eq!(manager.hears(), ["READY=1", &status, &pid]);
        let mut peer = server.peer();
        peer.send_frame(b"hello");
        peer.receives_frame(b"hello");
        server.signal(Signal::TERM);
        let stopping = "STATUS=Stopping, 1 connections may finish what they have begun";
        assert_eq!(manager.hears(), ["STOPPING=1", stopping]);
        peer.receives_end();
        peer.half_close();
        server.has_stopped(0);
        manager.hears_nothing_more();
    }
}

fn test_notify_fails() {
    let gone = Home::new().path().join("notify").display().to_string();
    for (place, errno) in [(&*gone, 2), ("notify", 97), ("vsock:2:1", 97), ("@no-one-is-here", 111)]
    {
        let home = Home::new();
        let launch = home.trustctl(["echo-server", "--port=0"]).env("NOTIFY_SOCKET", place);
        let server = Server::start_as(Model::Event, home, launch);
        let failed = server.wait_for_event("notify_failed", |_| true, STEP_DEADLINE);
        assert_eq!(failed.count("errno"), errno, "{failed:?}");
        assert_eq!(failed.text("level"), "warn", "{failed:?}");
        server.serves_the_next();
        event::only(&server.stop(), "notify_failed");
    }
    for (name, value) in [("WATCHDOG_USEC", "soon"), ("WATCHDOG_PID", "me")] {
        let home = Home::new();
        let launch = home.trustctl(["echo-server", "--port=0"]).env(name, value);
        launch.run().exits_with(64).complains_about(&[name, value, "expected"]);
    }
}

fn test_watchdog() {
    const TIMEOUT: Duration = Duration::from_millis(40);
    const SIGNS: u32 = 10;
    let start = |flags: &[&str], pid: Option<&str>| {
        let home = Home::new();
        fs::create_dir_all(home.path()).expect("make the home");
        let path = home.path().join("notify");
        let manager = Manager::new(UnixDatagram::bind(&path).expect("a socket"));
        let launch = home.trustctl(["echo-server", "--port=0"]).args(flags);
        let launch = launch.env("NOTIFY_SOCKET", &path);
        let launch = launch.env("WATCHDOG_USEC", TIMEOUT.as_micros().to_string());
        let launch = match pid {
            Some(pid) => launch.env("WATCHDOG_PID", pid),
            None => launch,
        };
        (Server::start_as(Model::Event, home, launch), manager)
    };
    for flags in [&["--workers=3"][..], &["--model=iterative"], &["--model=process"]] {
        let (server, manager) = start(flags, None);
        let mut signs = 0;
        while signs < SIGNS {
            signs += u32::from(manager.hears() == ["WATCHDOG=1"]);
        }
        server.serves_the_next();
        server.pause();
        while manager.socket.set_nonblocking(true).is_ok()
            && manager.socket.recv(&mut [0; 64]).is_ok()
        {}
        std::thread::park_timeout(3 * TIMEOUT);
        manager.hears_nothing_more();
        manager.socket.set_nonblocking(false).expect("it can be");
        server.signal(Signal::CONT);
        assert_eq!(manager.hears(), ["WATCHDOG=1"]);
        server.stop();
    }
    let (server, manager) = start(&[], Some("1"));
    assert_eq!(manager.hears()[0], "READY=1");
    std::thread::park_timeout(3 * TIMEOUT);
    manager.hears_nothing_more();
    server.stop();
}
