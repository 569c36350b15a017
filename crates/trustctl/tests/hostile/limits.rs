//! Slots, descriptors, errors of accept, many clients at once.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::case::Case;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::peer::Peer;
use trust_testkit::program::Home;
use trust_testkit::runner;
use trust_testkit::scene::{Scene, lasted};
use trust_testkit::server::Server;
use trust_testkit::tools::{Trace, most_in_a_second, times_of};

pub(crate) const CASES: &[Case] = &[
    Case::new("one client too many", one_client_too_many).alias(28).except(&[
        (Model::Iterative, "it serves one client, and the next one waits in the backlog"),
        (Model::Inetd, "how many programs there are is for the super-server to say"),
    ]),
    Case::new("out of descriptors", out_of_descriptors)
        .alias(29)
        .except(&[(Model::Inetd, ACCEPTS_NOBODY)]),
    Case::new("every errno of accept", every_errno_of_accept)
        .alias(30)
        .except(&[(Model::Inetd, ACCEPTS_NOBODY)]),
    Case::new("10,000 slow headers", slow_headers).alias(31).with_the_machine_to_itself().except(
        &[
            (Model::Iterative, "it serves one client, and its backlog does not hold as many"),
            (
                Model::Process,
                "10,000 processes are what it costs, and 2 KiB per client are not promised",
            ),
            (
                Model::Inetd,
                "10,000 processes are what it costs, and 2 KiB per client are not promised",
            ),
        ],
    ),
    Case::new("more places than descriptors", more_places_than_descriptors)
        .alias(32)
        .except(&[(Model::Inetd, "how many programs there are is for the super-server to say")]),
];

const ACCEPTS_NOBODY: &str = "the super-server accepts";

/// The contract: accept calls per second, whatever fails.
const MAX_ACCEPTS_A_SECOND: usize = 20;

fn one_client_too_many(model: Model) {
    /// Clients without a slot that linger at the same time.
    const MAX_LINGERING: usize = 64;
    const BEYOND: usize = 6;
    let flags = ["--max-clients", "2", "--timeout", "60", "--linger-timeout", "60"];
    let server = Server::of(model, flags);
    let descriptors = server.descriptor_count();
    let witness = server.witness();
    let mut rejected = 0;

    let served = served_peer(&server);
    let with_all_places = server.descriptor_count();
    let mut third = server.peer();
    let third_address = third.address();
    third.receives_end();
    // It gets an orderly close: what it had sent is discarded, not answered with RST.
    third.send_frame(b"is there a place?");
    third.half_close();
    rejected += 1;
    let told_to = third_address.to_string();
    let reject = server.wait_for_event(
        "client_reject",
        |event| event.text("peer") == told_to,
        STEP_DEADLINE,
    );
    assert_eq!(reject.text("reason"), "at_capacity", "{reject:?}");
    assert_eq!(reject.text("level"), "warn", "{reject:?}");
    assert!(!reject.has("conn"), "a number for a client that was not served: {reject:?}");
    server.comes_back_to_descriptors(with_all_places);
    third.receives_end();

    // A slot is free once the close is logged, and the next client takes it.
    let address = served.address();
    served.leave();
    server.closes(address, "peer_fin");
    let mut last = served_peer(&server);

    // A lingering connection keeps its slot.
    last.send(&u32::MAX.to_be_bytes());
    last.receives_end();
    let mut early = server.peer();
    early.receives_end();
    early.leave();
    rejected += 1;
    let address = last.address();
    last.leave();
    server.closes(address, "frame_too_large");
    let last = served_peer(&server);
    server.comes_back_to_descriptors(with_all_places);

    let mut lingering: Vec<Peer> = (0..MAX_LINGERING).map(|_| server.peer()).collect();
    for peer in &mut lingering {
        peer.receives_end();
    }
    rejected += MAX_LINGERING;
    for _ in 0..BEYOND {
        is_turned_away_with_reset(&server);
    }
    rejected += BEYOND;
    assert_eq!(server.descriptor_count(), with_all_places + MAX_LINGERING);
    witness.is_well();
    drop(lingering.pop());
    server.comes_back_to_descriptors(with_all_places + MAX_LINGERING - 1);
    let mut another = server.peer();
    another.receives_end();
    rejected += 1;

    drop((another, lingering));
    witness.is_well();
    witness.leaves();
    let address = last.address();
    last.leave();
    server.closes(address, "peer_fin");
    server.serves_the_next();
    server.comes_back_to_descriptors(descriptors);
    let events = server.stop();
    assert_eq!(event::only(&events, "server_stop").count("rejected"), rejected as u64);
    let told = event::named(&events, "client_reject");
    let counted: u64 = told.iter().map(|event| 1 + event.count("suppressed")).sum();
    assert!(counted <= rejected as u64 && told.len() < rejected, "{told:?}");
    // The witness, three with the last slot, and the last one.
    assert_eq!(event::named(&events, "client_connect").len(), 5);
}

/// Checks that a new client gets an RST, while it connects or afterwards.
#[track_caller]
fn is_turned_away_with_reset(server: &Server) {
    match TcpStream::connect_timeout(&server.address(), STEP_DEADLINE) {
        Ok(stream) => Peer::over(stream).is_reset(),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// A peer that has been served, so that it certainly has a slot.
#[track_caller]
fn served_peer(server: &Server) -> Peer {
    let mut peer = server.peer();
    is_served(&mut peer);
    server.settles(peer.address());
    peer
}

#[track_caller]
fn is_served(peer: &mut Peer) {
    peer.send_frame(b"served?");
    peer.receives_frame(b"served?");
}

fn out_of_descriptors(model: Model) {
    /// Failed calls that take more than a second if they are not too frequent.
    const FAILURES: usize = MAX_ACCEPTS_A_SECOND + 2;
    let _needed = Trace::new();
    let (server, trace) = traced_server(model, &["--timeout", "60"], &[]);
    let descriptors = server.descriptor_count();
    // The iterative model serves no one meanwhile, and has no slot that becomes free on its own;
    // and a child takes more than one descriptor to start.
    let places = if model == Model::Event { 2 } else { 0 };
    let witness = model.serves_several().then(|| server.witness());
    let before = set_descriptor_limit(&server, lowest_limit_for(&server, places));
    let served: Vec<Peer> = (0..places).map(|_| served_peer(&server)).collect();

    let mut waiting = server.peer();
    waiting.send_frame(b"waiting");
    let paused = server.wait_for_event("accept_paused", |_| true, STEP_DEADLINE);
    assert_eq!(paused.text("errno_name"), "EMFILE", "{paused:?}");
    assert_eq!(paused.text("level"), "error", "{paused:?}");
    wait_for_accepts(&trace, "EMFILE", FAILURES);
    if let Some(witness) = &witness {
        witness.is_well();
    }

    if served.is_empty() {
        set_descriptor_limit(&server, before);
    }
    for peer in served {
        peer.leave();
    }
    waiting.receives_frame(b"waiting");
    waiting.leave();
    set_descriptor_limit(&server, before);
    server.wait_for_event("accept_resumed", |_| true, STEP_DEADLINE);
    server.serves_the_next();
    if model == Model::Process {
        too_few_for_a_child(&server);
    }
    if let Some(witness) = witness {
        witness.leaves();
    }
    server.comes_back_to_descriptors(descriptors);
    check_pauses(&server.stop());
    let calls = accepts(&trace, "EMFILE");
    assert!(most_in_a_second(&calls) <= MAX_ACCEPTS_A_SECOND, "{calls:?}");
}

/// A client whose child cannot be started for lack of descriptors waits like one that cannot be
/// accepted.
fn too_few_for_a_child(server: &Server) {
    /// More than it takes to accept and to start a child.
    const ENOUGH: usize = 16;
    /// How long descriptors are short: longer than accepting pauses.
    const SHORTAGE: Duration = Duration::from_millis(300);
    for free in 0..=ENOUGH {
        let before = set_descriptor_limit(server, lowest_limit_for(server, free));
        let mut peer = server.peer();
        peer.send_frame(b"a child?");
        let mut answer = [PollFd::new(peer.stream(), PollFlags::IN)];
        let shortage = Timespec::try_from(SHORTAGE).expect("less than a second");
        let ready = poll(&mut answer, Some(&shortage)).expect("poll a socket");
        set_descriptor_limit(server, before);
        peer.receives_frame(b"a child?");
        leaves(server, peer);
        if ready > 0 {
            assert!(free > 0, "a child takes no descriptors");
            return;
        }
    }
    panic!("{ENOUGH} descriptors are not enough for a child");
}

/// Checks that every pause was announced once, and its end too.
#[track_caller]
fn check_pauses(events: &[Event]) {
    let names: Vec<&str> =
        events.iter().map(Event::name).filter(|name| name.starts_with("accept_")).collect();
    let expected = ["accept_paused", "accept_resumed"];
    let in_turn = names.iter().zip(expected.iter().cycle()).all(|(name, wanted)| name == wanted);
    assert!(!names.is_empty() && in_turn && names.len().is_multiple_of(2), "{names:?}");
}

/// The limit at which the server can open exactly that many more descriptors.
#[track_caller]
fn lowest_limit_for(server: &Server, more: usize) -> u64 {
    let directory = format!("/proc/{}/fd", server.pid());
    let open: Vec<u64> = fs::read_dir(directory)
        .expect("the server runs")
        .map(|entry| {
            let name = entry.expect("an open descriptor").file_name();
            name.to_string_lossy().parse().expect("a number")
        })
        .collect();
    let free = (0..).filter(|number| !open.contains(number));
    free.clone().nth(more).expect("there are enough numbers")
}

/// Sets the soft limit (RLIMIT_NOFILE) of the running server; returns the old one.
fn set_descriptor_limit(server: &Server, limit: u64) -> u64 {
    let pid = Pid::from_raw(server.pid() as i32).expect("a process number");
    let hard = getrlimit(Resource::Nofile).maximum;
    let new = Rlimit { current: Some(limit), maximum: hard };
    let before =
        prlimit(Some(pid), Resource::Nofile, new).expect("the right to change a child's limit");
    before.current.unwrap_or(u64::MAX)
}

/// What the server does after an error of accept(2).
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// The next call may succeed.
    Retry,
    /// Accepting pauses.
    Pause,
    /// The server drains and stops.
    Stop,
}

/// The rows of the error table for accept, and one errno without a row. EINTR and EAGAIN are case
/// 13.
const ERRNOS_OF_ACCEPT: [(&str, After); 18] = [
    ("ECONNABORTED", After::Retry),
    ("EPROTO", After::Retry),
    ("ENETDOWN", After::Retry),
    ("ENOPROTOOPT", After::Retry),
    ("EHOSTDOWN", After::Retry),
    ("ENONET", After::Retry),
    ("EHOSTUNREACH", After::Retry),
    ("EOPNOTSUPP", After::Retry),
    ("ENETUNREACH", After::Retry),
    ("EPERM", After::Retry),
    ("EFAULT", After::Retry),
    ("EMFILE", After::Pause),
    ("ENFILE", After::Pause),
    ("ENOBUFS", After::Pause),
    ("ENOMEM", After::Pause),
    ("EBADF", After::Stop),
    ("EINVAL", After::Stop),
    ("ENOTSOCK", After::Stop),
];

fn every_errno_of_accept(model: Model) {
    let _needed = Trace::new();
    for is_persistent in [false, true] {
        // They mostly wait.
        thread::scope(|scope| {
            for (errno, after) in ERRNOS_OF_ACCEPT {
                scope.spawn(move || match after {
                    After::Stop => fatal_errno(model, errno, is_persistent),
                    _ => passing_errno(model, errno, after, is_persistent),
                });
            }
        });
    }
}

/// The server survives the errno, does not spin, and serves the clients that waited meanwhile.
fn passing_errno(model: Model, errno: &str, after: After, is_persistent: bool) {
    // The calls before: one finds the witness, and one finds no client (in the iterative model the
    // witness is served until it leaves; the next call finds no client).
    const BEFORE: usize = 3;
    let failures = match (is_persistent, after) {
        (false, _) => 1,
        // Ten without a pause, and more than a second of pauses.
        (true, After::Retry) => 25,
        (true, _) => 15,
    };
    let when = match failures {
        1 => format!("{}", BEFORE + 1),
        _ => format!("{}..{}", BEFORE + 1, BEFORE + failures),
    };
    let inject = format!("accept4:error={errno}:when={when}");
    let (server, trace) = traced_server(model, &["--timeout", "60"], &[inject]);
    let mut other = begin_with_three_calls(&server, &trace, model);

    let mut peer = served_peer(&server);
    if let Some(other) = &mut other {
        is_served(other);
    }
    peer.send_frame(b"and again");
    peer.receives_frame(b"and again");
    leaves(&server, peer);
    if let Some(other) = other {
        leaves(&server, other);
    }
    server.serves_the_next();
    let events = server.stop();

    let calls = accepts(&trace, "INJECTED");
    assert_eq!(calls.len(), failures, "{errno}: {calls:?}");
    assert!(most_in_a_second(&calls) <= MAX_ACCEPTS_A_SECOND, "{errno}: {calls:?}");
    let name = match (after, errno) {
        (After::Pause, _) => "accept_paused",
        (_, "EFAULT") => "io_error",
        _ => "accept_error",
    };
    let told = event::named(&events, name);
    let level = if name == "accept_error" { "warn" } else { "error" };
    for event in &told {
        assert_eq!((event.text("errno_name"), event.text("level")), (errno, level), "{event:?}");
        assert!(event.count("errno") > 0, "{event:?}");
    }
    if after == After::Pause {
        check_pauses(&events);
        assert_eq!(told.len(), 1, "{errno}: {told:?}");
    } else {
        // One per second, which says how many were not written.
        let span = calls.last().zip(calls.first()).map_or(0.0, |(last, first)| last - first);
        assert!(!told.is_empty() && told.len() <= 2 + span as usize, "{errno}: {told:?}");
        let counted: u64 = told.iter().map(|event| 1 + event.count("suppressed")).sum();
        assert!(counted <= failures as u64, "{errno}: {told:?}");
    }
}

/// Lets the server make its first three accept calls; in the event model the first client stays.
#[track_caller]
fn begin_with_three_calls(server: &Server, trace: &Trace, model: Model) -> Option<Peer> {
    wait_for_accepts(trace, "accept4(", 1);
    let peer = served_peer(server);
    if model.serves_several() {
        wait_for_accepts(trace, "accept4(", 3);
        return Some(peer);
    }
    leaves(server, peer);
    wait_for_accepts(trace, "accept4(", 3);
    None
}

/// The server drains the clients that it has accepted, and ends with 71.
fn fatal_errno(model: Model, errno: &str, is_persistent: bool) {
    let until = if is_persistent { "4+" } else { "4" };
    let inject = format!("accept4:error={errno}:when={until}");
    let (server, trace) = traced_server(model, &["--timeout", "60"], &[inject]);
    let other = begin_with_three_calls(&server, &trace, model);
    // The socket that failed is not used again: closing it resets the waiting clients.
    waits_in_vain(&server);
    let mut drained = 0;
    if let Some(mut other) = other {
        other.receives_end();
        let address = other.address();
        other.leave();
        server.closes(address, "drain");
        drained += 1;
    }
    let events = server.ends_with(71, &[errno]);
    let failed = event::only(&events, "io_error");
    assert_eq!((failed.text("errno_name"), failed.text("level")), (errno, "error"), "{failed:?}");
    let done = event::only(&events, "drain_done");
    assert_eq!((done.count("drained"), done.count("cut")), (drained, 0), "{done:?}");
    assert_eq!(accepts(&trace, "INJECTED").len(), 1, "{errno}: {:?}", accepts(&trace, ""));
}

/// Lets a new client wait, which is reset when the listening socket is closed.
#[track_caller]
fn waits_in_vain(server: &Server) {
    let waited = TcpStream::connect_timeout(&server.address(), STEP_DEADLINE)
        .map(Peer::over)
        .and_then(|peer| peer.stream().read(&mut [0]));
    let error = waited.expect_err("it is not served");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[track_caller]
fn leaves(server: &Server, mut peer: Peer) {
    let address = peer.address();
    peer.half_close();
    peer.receives_end();
    server.closes(address, "peer_fin");
}

/// A server under strace, which records its accept calls and injects errors into them.
#[track_caller]
fn traced_server(model: Model, flags: &[&str], injections: &[String]) -> (Server, Trace) {
    let trace = Trace::new();
    let wrapper = trace.wrapper("accept4", injections);
    let launch =
        move |home: &Home, arguments: &[OsString]| home.trustctl_under(&wrapper, arguments);
    (Server::of_under(model, Home::new(), flags, launch), trace)
}

/// When accept was called, in seconds, in lines that contain this word.
fn accepts(trace: &Trace, word: &str) -> Vec<f64> {
    times_of(&trace.lines(), &["accept4(", word])
}

#[track_caller]
fn wait_for_accepts(trace: &Trace, word: &str, count: usize) {
    kernel::wait_until("so many calls of accept", || accepts(trace, word).len() >= count);
}

fn slow_headers(model: Model) {
    const COUNT: usize = 10_000;
    /// Descriptors of this process besides the peers'.
    const BESIDE: u64 = 200;
    const PEER_MEMORY: u64 = 2 * 1024;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|hard| hard < COUNT as u64 + BESIDE) {
        runner::skip("a hard limit of 10,200 descriptors");
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("raise a limit");
    // All must be held at once: a machine that is too busy for that gets more time.
    for frame_timeout in [5, 10, 20] {
        let limit = Duration::from_secs(frame_timeout);
        let seconds = frame_timeout.to_string();
        let scene = Scene::start(model, &["--timeout", "60", "--frame-timeout", &seconds]);
        let server = &scene;
        let user_bytes = || server.memory("RssAnon");
        let user_bytes_before = user_bytes();
        let began = Instant::now();
        let peers: Vec<TcpStream> =
            (0..COUNT).map(|index| slow_header(server.address(), index)).collect();
        let connected = Cell::new(1);
        server.wait_for_event(
            "client_connect",
            |_| connected.replace(connected.get() + 1) == COUNT + 1,
            STEP_DEADLINE,
        );
        for mut peer in &peers {
            let _ = peer.write(&[0]);
        }
        kernel::wait_until("every byte being read", || unread_bytes(server.port()) == 0);
        scene.others_are_well();
        let grown = user_bytes().saturating_sub(user_bytes_before);
        if began.elapsed() >= limit {
            scene.gives_up();
            continue;
        }
        let each = grown / COUNT as u64;
        assert!(each <= PEER_MEMORY, "{each} bytes of memory for each of {COUNT} slow headers");

        let closed = Cell::new(0);
        server.wait_for_event(
            "client_close",
            |close| {
                assert_eq!(close.text("reason"), "frame_timeout", "{close:?}");
                let lasted = close.number("duration_ms");
                assert!(lasted >= limit.as_millis() as f64, "cut too early, {close:?}");
                closed.replace(closed.get() + 1) == COUNT - 1
            },
            limit + STEP_DEADLINE,
        );
        scene.others_are_well();
        lasted(began, limit);
        for mut peer in peers {
            let end = peer.read(&mut [0; 16]).expect_err("RST");
            assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{end}");
        }
        let events = scene.ends();
        assert_eq!(event::named(&events, "frame_timeout").len(), COUNT);
        return;
    }
    panic!("{COUNT} peers could not be connected in 20 s");
}

/// A connection that has sent two bytes of a header, from one of several addresses, each with its
/// own ports. None is 127.0.0.1: an address that is used again later would be taken for this
/// peer's.
#[track_caller]
fn slow_header(server: SocketAddr, index: usize) -> TcpStream {
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + (index % 8) as u8), 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&source.into()).expect("bind to a loopback address");
    socket.connect_timeout(&server.into(), STEP_DEADLINE).expect("connect");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(STEP_DEADLINE)).expect("set the receive timeout");
    stream.write_all(&[0, 0]).expect("send two bytes");
    stream
}

/// Bytes received but not yet read by the owner of that port (proc(5), `/proc/net/tcp`).
fn unread_bytes(port: u16) -> u64 {
    let port = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .map(|table| {
            let queues = table.lines().skip(1).filter_map(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                let is_ours = columns.get(1)?.ends_with(&port);
                let (_, unread) = columns.get(4)?.split_once(':')?;
                is_ours.then(|| u64::from_str_radix(unread, 16).ok()).flatten()
            });
            queues.sum::<u64>()
        })
        .sum()
}

fn more_places_than_descriptors(model: Model) {
    const DESCRIPTORS: u64 = 300;
    const WANTED: u64 = 5_000;
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
    let wanted = WANTED.to_string();
    let flags = ["--max-clients", &wanted, "--timeout", "60"];
    let server = Server::of_under(model, Home::new(), flags, move |home, arguments| {
        home.trustctl_under(&["/bin/sh", "-c", &script], arguments)
    });
    let lowered = server.wait_for_event("limit_lowered", |_| true, STEP_DEADLINE);
    assert_eq!(lowered.text("level"), "warn", "{lowered:?}");
    assert_eq!(lowered.count("wanted"), WANTED, "{lowered:?}");
    let got = lowered.count("got");
    assert!(got > 0 && got < DESCRIPTORS, "{lowered:?}");
    assert_eq!(server.start_event().count("max_clients"), got);

    let descriptors = server.descriptor_count();
    if model.serves_several() {
        // As many as promised are served, and one more is rejected.
        let served: Vec<Peer> = (0..got).map(|_| served_peer(&server)).collect();
        let mut beyond = server.peer();
        beyond.receives_end();
        drop((beyond, served));
        server.comes_back_to_descriptors(descriptors);
    }
    server.serves_the_next();
    let events = server.stop();
    assert!(event::named(&events, "accept_paused").is_empty(), "ran out of descriptors");
    event::only(&events, "limit_lowered");

    let server = Server::of(model, ["--max-clients", "10"]);
    server.serves_the_next();
    let events = server.stop_with(Signal::TERM, 0);
    assert!(event::named(&events, "limit_lowered").is_empty(), "lowered without a reason");
}
