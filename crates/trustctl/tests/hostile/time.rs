//! Silence, slowness, clocks and pauses.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::case::Case;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{Event, MovedClock};
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::program::Home;
use trust_testkit::runner;
use trust_testkit::scene::{Scene, lasted};
use trust_testkit::server::Server;
use trust_testkit::tools;

pub(crate) const CASES: &[Case] = &[
    Case::new("silence after connect", silence_after_connect).alias(21),
    Case::new("silence inside a header", silence_inside_a_header).alias(22),
    Case::new("a byte now and then", a_byte_now_and_then).alias(23),
    Case::new("sends and never reads", sends_and_never_reads)
        .alias(24)
        .with_the_machine_to_itself(),
    Case::new("slow reader", slow_reader).alias(25),
    Case::new("wall clock moved by a day", wall_clock_moved).alias(26),
    Case::new("server stopped and continued", server_stopped).alias(27),
];

/// EAGAIN on Linux.
const EAGAIN: u64 = 11;

/// The largest payload by default.
const MAX_PAYLOAD: usize = 65_536;

fn silence_after_connect(model: Model) {
    silence_after(model, b"");
}

fn silence_inside_a_header(model: Model) {
    silence_after(model, &[0, 0, 1]);
}

/// A peer that sends only this gets an orderly close at `--timeout`.
fn silence_after(model: Model, sent: &[u8]) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const LATE: &[u8] = b"too late";
    let scene = Scene::start(model, &["--timeout", "1"]);
    let began = Instant::now();
    let mut peer = scene.peer();
    let address = peer.address();
    peer.send(sent);
    peer.receives_end();
    lasted(began, TIMEOUT);
    scene.others_are_well();
    // Bytes that come now are discarded; a server that had closed would answer with RST.
    peer.send(LATE);
    peer.half_close();
    let close = scene.closes(address, "recv_timeout");
    peer.receives_end();
    peer.leave();

    let timeout = scene.event_about(address, "recv_timeout");
    assert_eq!(timeout.text("level"), "warn", "{timeout:?}");
    assert_eq!(timeout.count("errno"), EAGAIN, "{timeout:?}");
    assert_eq!(timeout.text("errno_name"), "EAGAIN", "{timeout:?}");
    assert_eq!(timeout.number("timeout_sec"), TIMEOUT.as_secs_f64(), "{timeout:?}");
    let received = (sent.len() + LATE.len()) as u64;
    assert_eq!((close.count("bytes_in"), close.count("bytes_out")), (received, 0), "{close:?}");
    assert_eq!((close.count("frames_in"), close.count("frames_out")), (0, 0), "{close:?}");
    scene.ends();
}

fn a_byte_now_and_then(model: Model) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const FRAME_TIMEOUT: Duration = Duration::from_millis(2_500);
    const PAUSE: Duration = Duration::from_millis(600);
    /// An attempt does not count if this process was not scheduled for a whole `TIMEOUT`.
    const TRIES: usize = 5;
    let scene = Scene::start(model, &["--timeout", "1", "--frame-timeout", "2.5"]);
    let address = (0..TRIES)
        .find_map(|_| {
            let mut peer = scene.peer();
            peer.send_frame(b"a whole frame starts no clock");
            peer.receives_frame(b"a whole frame starts no clock");
            let began = Instant::now();
            let longest_pause = drips_until_reset(&mut peer, PAUSE);
            if longest_pause >= TIMEOUT {
                return None;
            }
            lasted(began, FRAME_TIMEOUT);
            Some(peer.address())
        })
        .expect("a peer that is never silent for a whole timeout");
    scene.others_are_well();
    let close = scene.closes(address, "frame_timeout");
    assert_eq!((close.count("frames_in"), close.count("frames_out")), (1, 1), "{close:?}");
    let timeout = scene.event_about(address, "frame_timeout");
    assert_eq!(timeout.text("level"), "warn", "{timeout:?}");
    assert_eq!(timeout.number("frame_timeout_sec"), FRAME_TIMEOUT.as_secs_f64(), "{timeout:?}");
    scene.ends();
}

/// Sends a frame's bytes one by one with pauses, until an RST comes; returns the longest pause.
#[track_caller]
fn drips_until_reset(peer: &mut Peer, pause: Duration) -> Duration {
    let bytes = frame(&pattern(MAX_PAYLOAD));
    let mut stream = peer.stream();
    stream.set_read_timeout(Some(pause)).expect("set the receive timeout");
    let began = Instant::now();
    let (mut last, mut longest) = (began, Duration::ZERO);
    for byte in bytes {
        let sent = stream.write(&[byte]);
        longest = longest.max(last.elapsed());
        last = Instant::now();
        let error = match sent.and_then(|_| stream.read(&mut [0])) {
            Ok(0) => panic!("an orderly end in place of RST"),
            Ok(_) => panic!("an answer to an unfinished frame"),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::WouldBlock => assert!(began.elapsed() < STEP_DEADLINE, "never cut"),
            ErrorKind::ConnectionReset => return longest,
            _ => panic!("{error} in place of RST"),
        }
    }
    panic!("the frame was read to its end")
}

fn sends_and_never_reads(model: Model) {
    /// What one of many peers may cost the server, in the kernel and in its own memory together, in
    /// bytes.
    const PEER_COST: u64 = 512 * 1024;
    /// What a separate process may cost in addition: pages touched by the first owed answer.
    const PROCESS_COST: u64 = 512 * 1024;
    /// Bytes that may be received and not yet returned to the kernel: the rest of a frame, and one
    /// receive.
    const MAX_OWED: u64 = (4 + MAX_PAYLOAD + 65_536) as u64;
    tools::needs("ss", Command::new("ss").arg("-V"));
    let (count, timeout) = match model {
        Model::Event => (100, "2"),
        // All but one wait for their turn, and cost the server too.
        Model::Iterative => (5, "0.8"),
        // Many starting processes stay busy for longer than a timeout.
        Model::Process | Model::Inetd => (20, "2"),
    };
    let server = Server::of(model, ["--timeout", timeout]);
    let descriptors = server.descriptor_count();
    // Memory that the first client and the largest frame need is allocated before the measurement.
    let largest = server.echo_client(["--payload-size", "65536"]).run().exits_with(0);
    assert_eq!(largest.stdout.len(), MAX_PAYLOAD + 1);
    server.comes_back_to_descriptors(descriptors);
    let scene = Scene::beside_a_witness(model, server);
    let server = &scene;
    let user_bytes = || server.memory("RssAnon");
    let mut user_bytes_before = user_bytes();
    let began = Instant::now();
    let mut peers: Vec<Peer> = (0..count).map(|_| Peer::connect_tiny(server.address())).collect();
    if model.has_children() {
        // The cost of a process that has served the largest frame is the model's, not the peer's.
        let largest = pattern(MAX_PAYLOAD);
        for peer in &mut peers {
            peer.send_frame(&largest);
            peer.receives_frame(&largest);
        }
        user_bytes_before = user_bytes();
    }
    let is_over = AtomicBool::new(false);
    let cost = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let sent = flood_until_reset(&peers);
            is_over.store(true, Ordering::SeqCst);
            sent
        });
        let mut highest = 0;
        while !is_over.load(Ordering::SeqCst) && !flood.is_finished() {
            let grown = user_bytes().saturating_sub(user_bytes_before);
            highest = highest.max(grown + kernel_bytes(server.port()));
            thread::park_timeout(Duration::from_millis(100));
        }
        for sent in flood.join().expect("the flood ends with RST for everybody") {
            assert!(sent > MAX_PAYLOAD as u64, "a peer was blocked after {sent} bytes");
        }
        highest
    });
    lasted(began, Duration::from_secs_f64(timeout.parse().expect("seconds")));
    scene.others_are_well();
    for peer in &peers {
        let close = server.closes(peer.address(), "send_timeout");
        let owed = close.count("bytes_in") - close.count("bytes_out");
        assert!(owed <= MAX_OWED, "{owed} bytes in hand, {close:?}");
        let timeout = server.event_about(peer.address(), "send_timeout");
        assert_eq!(timeout.count("errno"), EAGAIN, "{timeout:?}");
        assert_eq!(timeout.text("level"), "warn", "{timeout:?}");
    }
    let each = cost / count;
    let allowed = PEER_COST + if model.has_children() { PROCESS_COST } else { 0 };
    assert!(each <= allowed, "{each} bytes for each of {count} peers");
    assert!(cost > 0, "no cost was seen");
    drop(peers);
    scene.ends();
}

/// Sends whole frames on all connections without reading, until each has got an RST. Returns how
/// many bytes each could send.
fn flood_until_reset(peers: &[Peer]) -> Vec<u64> {
    let frames: Vec<u8> = (0..64).flat_map(|_| frame(&pattern(1020))).collect();
    let mut sent = vec![0u64; peers.len()];
    let mut open: Vec<usize> = (0..peers.len()).collect();
    for peer in peers {
        peer.stream().set_nonblocking(true).expect("set O_NONBLOCK");
    }
    let deadline = Instant::now() + 3 * STEP_DEADLINE;
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "{} peers were never cut", open.len());
        let mut waiting: Vec<PollFd<'_>> =
            open.iter().map(|index| PollFd::new(peers[*index].stream(), PollFlags::OUT)).collect();
        let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut waiting, Some(&timeout)).expect("poll sockets");
        let ready: Vec<bool> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain(|index| {
            if !ready.next().expect("one for each") {
                return true;
            }
            let from = sent[*index] as usize % frames.len();
            match peers[*index].stream().write(&frames[from..]) {
                Ok(count) => sent[*index] += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    return false;
                }
            }
            true
        });
    }
    sent
}

/// What the kernel holds for the server's connections on that port because of the server, in bytes:
/// the send queue, and what was set aside (ss(8), `skmem`). The receive queue does not count: on a
/// busy machine, where a server is slow to read, the kernel enlarges it on its own (tcp_rmem,
/// `tcp(7)`; 570 KB have been seen).
#[track_caller]
fn kernel_bytes(port: u16) -> u64 {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-H", "-t", "-n", "-m", &filter]).output();
    let output = output.expect("run ss");
    assert!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("ss prints ASCII");
    text.split("skmem:(")
        .skip(1)
        .map(|memory| {
            let memory = memory.split(')').next().unwrap_or_default();
            let field = |name: &str| {
                let value = memory.split(',').find_map(|field| {
                    field.strip_prefix(name).and_then(|value| value.parse::<u64>().ok())
                });
                value.unwrap_or_else(|| panic!("no {name} in skmem:({memory})"))
            };
            field("w") + field("f") + field("o") + field("bl")
        })
        .sum()
}

fn slow_reader(model: Model) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    /// How long the peer is slow: several timeouts.
    const SLOW: Duration = Duration::from_secs(4);
    /// So slow that draining a third of the server's send buffer, which makes a socket writable,
    /// takes longer than the timeout.
    const PAUSE: Duration = Duration::from_millis(100);
    const BYTES_A_PAUSE: usize = 2_500;
    const FRAMES: usize = 600;
    let scene = Scene::start(model, &["--timeout", "1"]);
    let mut peer = Peer::connect_tiny(scene.address());
    let address = peer.address();
    let sent: Vec<u8> = frame(&pattern(1020)).repeat(FRAMES);
    let mut writer = Peer::over(peer.stream().try_clone().expect("a second handle"));
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| writer.send(&sent));
        let mut rest = &sent[..];
        while began.elapsed() < SLOW {
            let (next, later) = rest.split_at(BYTES_A_PAUSE);
            peer.receives(next);
            rest = later;
            thread::park_timeout(PAUSE);
        }
        // With windows as small as before, the two kernels might exchange just one per probe, five
        // per second.
        peer.enlarge_receive_buffer();
        peer.receives(rest);
    });
    peer.half_close();
    peer.receives_end();
    let close = scene.closes(address, "peer_fin");
    assert_eq!(close.count("bytes_out"), sent.len() as u64, "{close:?}");
    assert_eq!(close.count("frames_out"), FRAMES as u64, "{close:?}");
    assert!(close.number("duration_ms") >= 3.0 * TIMEOUT.as_millis() as f64, "{close:?}");
    drop((peer, writer));
    for event in scene.ends() {
        let warns = event.has("conn") && event.text("level") != "info";
        assert!(!warns, "a warning about a slow reader: {event:?}");
    }
}

/// What a peer does until the server cuts it off, for each of the limits on a connection.
#[derive(Clone, Copy)]
enum Idles {
    Silent,
    InsideAFrame,
    WithoutReading,
}

impl Idles {
    const ALL: [Idles; 3] = [Idles::Silent, Idles::InsideAFrame, Idles::WithoutReading];

    fn reason(self) -> &'static str {
        match self {
            Idles::Silent => "recv_timeout",
            Idles::InsideAFrame => "frame_timeout",
            Idles::WithoutReading => "send_timeout",
        }
    }

    fn limit(self) -> Duration {
        match self {
            Idles::Silent | Idles::WithoutReading => Duration::from_secs(1),
            Idles::InsideAFrame => Duration::from_millis(500),
        }
    }

    #[track_caller]
    fn begin(self, server: &Server) -> Peer {
        let mut peer = Peer::connect_tiny(server.address());
        match self {
            Idles::Silent => (),
            Idles::InsideAFrame => peer.send(&frame(b"never whole")[..7]),
            Idles::WithoutReading => peer.send_frame(&pattern(MAX_PAYLOAD)),
        }
        peer
    }

    #[track_caller]
    fn ends(self, peer: &mut Peer) {
        match self {
            Idles::Silent => peer.receives_end(),
            Idles::InsideAFrame | Idles::WithoutReading => peer.is_reset(),
        }
    }
}

fn wall_clock_moved(model: Model) {
    /// An attempt does not count if this process was not scheduled for the shortest limit.
    const TRIES: usize = 5;
    let Some(library) = faketime_library() else { runner::skip("libfaketime") };
    let _moved = MovedClock::expect();
    let home = Home::new();
    let clock = WallClock::new(&home);
    let limits = ["--timeout", "1", "--frame-timeout", "0.5"];
    let scene = Scene::beside_a_witness(model, clock.start_server(&library, home, model, &limits));
    // The iterative model serves one at a time.
    let together = if model.serves_several() { Idles::ALL.len() } else { 1 };
    let mut day_before = 0;
    for day in [1, -1] {
        for group in Idles::ALL.chunks(together) {
            let (began, mut peers) = (0..TRIES)
                .find_map(|_| {
                    clock.set(day_before);
                    begin_together(group, &scene, || clock.set(day))
                })
                .expect("a clock that moved before the first limit was over");
            peers.sort_by_key(|(idles, _)| idles.limit());
            for (idles, peer) in &mut peers {
                idles.ends(peer);
                lasted(began, idles.limit());
            }
            scene.others_are_well();
            for (idles, peer) in peers {
                let address = peer.address();
                peer.leave();
                moved_by(day - day_before, &scene, address, idles.reason());
            }
        }
        day_before = day;
    }
    scene.ends();

    // The deadline of the whole server.
    let home = Home::new();
    let clock = WallClock::new(&home);
    let server = clock.start_server(&library, home, model, &["--drain-timeout", "1"]);
    let mut peer = Idles::InsideAFrame.begin(&server);
    peer.is_received();
    server.event_about(peer.address(), "client_connect");
    let began = Instant::now();
    server.signal(Signal::TERM);
    server.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
    clock.set(-1);
    peer.is_reset();
    lasted(began, Duration::from_secs(1));
    moved_by(-1, &server, peer.address(), "drain_timeout");
    server.ends_with(1, &[]);
}

/// Connects peers that idle in these ways, and moves the clock before the first of them is cut off.
/// Returns the earliest time at which one may have gone idle; `None` if it took too long.
#[track_caller]
fn begin_together(
    group: &[Idles],
    server: &Server,
    move_clock: impl Fn(),
) -> Option<(Instant, Vec<(Idles, Peer)>)> {
    let began = Instant::now();
    let peers: Vec<(Idles, Peer)> =
        group.iter().map(|idles| (*idles, idles.begin(server))).collect();
    for (_, peer) in &peers {
        peer.is_received();
        server.event_about(peer.address(), "client_connect");
    }
    move_clock();
    let shortest = group.iter().map(|idles| idles.limit()).min().expect("not empty");
    (began.elapsed() < shortest).then_some((began, peers))
}

/// Checks that the server's wall clock moved by this many days during that connection, and that its
/// clock for durations did not.
#[track_caller]
fn moved_by(days: i64, server: &Server, peer: SocketAddr, reason: &str) {
    const DAY_SEC: i64 = 86_400;
    let second = |event: &Event| {
        let moment: Timestamp = event.text("ts").parse().expect("ts is a date");
        moment.as_second()
    };
    let close = server.closes(peer, reason);
    let moved = second(&close) - second(&server.event_about(peer, "client_connect"));
    assert!((moved - days * DAY_SEC).abs() < 3_600, "ts moved by {moved} s, not by {days} days");
    assert!(close.number("duration_ms") < 60_000.0, "{close:?}");
}

/// Where Debian and other distributions install libfaketime.
fn faketime_library() -> Option<PathBuf> {
    let multiarch = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    multiarch
        .chain(["/usr/lib".into(), "/usr/lib64".into(), "/usr/local/lib".into()])
        .map(|directory| directory.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
}

/// The wall clock of one server: a file that libfaketime reads whenever it is asked for the time.
struct WallClock {
    file: PathBuf,
}

impl WallClock {
    fn new(home: &Home) -> WallClock {
        let clock = WallClock { file: home.elsewhere("clock") };
        clock.set(0);
        clock
    }

    #[track_caller]
    fn start_server(&self, library: &Path, home: Home, model: Model, flags: &[&str]) -> Server {
        let (library, file) = (library.to_owned(), self.file.clone());
        Server::of_under(model, home, flags, move |home, arguments| {
            home.trustctl(arguments)
                .env("LD_PRELOAD", &library)
                .env("FAKETIME_TIMESTAMP_FILE", &file)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1")
                .env("FAKETIME_NO_CACHE", "1")
        })
    }

    /// Moves the clock to this many days from now, atomically.
    fn set(&self, days: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{days:+}d\n")).expect("write a file");
        fs::rename(&new, &self.file).expect("rename a file");
    }
}

fn server_stopped(model: Model) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    /// An attempt does not count if this process was not scheduled for a whole `TIMEOUT`.
    const TRIES: usize = 5;
    let server = Server::of(model, ["--timeout", "1"]);
    let descriptors = server.descriptor_count();
    let (large, later) = (frame(&pattern(MAX_PAYLOAD)), frame(&pattern(1000)));
    let (half, other_half) = later.split_at(500);
    let (began, mut busy, others) = (0..TRIES)
        .find_map(|_| {
            let began = Instant::now();
            let mut busy = Peer::connect_tiny(server.address());
            busy.send(&large);
            busy.send(half);
            busy.receives(&large[..100]);
            // The iterative model serves only the busy one.
            let others = model.serves_several().then(|| idle_and_silent(&server));
            server.pause();
            if began.elapsed() < TIMEOUT {
                return Some((began, busy, others));
            }
            server.resume();
            None
        })
        .expect("a server that is stopped before anybody is silent for a whole timeout");

    let mut newcomer = server.peer();
    newcomer.send_frame(b"newcomer");
    newcomer.half_close();
    // It takes what it is owed, and finishes the frame, while the server is stopped.
    busy.receives(&large[100..]);
    busy.send(other_half);
    busy.half_close();
    let others = others.map(|(mut idle, silent)| {
        idle.send_frame(b"meanwhile");
        idle.half_close();
        (idle, silent)
    });
    while began.elapsed() < 4 * TIMEOUT {
        thread::park_timeout(Duration::from_millis(5));
    }
    server.resume();

    busy.receives_to_end(&later);
    server.closes(busy.address(), "peer_fin");
    newcomer.receives_to_end(&frame(b"newcomer"));
    server.closes(newcomer.address(), "peer_fin");
    if let Some((mut idle, mut silent)) = others {
        idle.receives_to_end(&frame(b"meanwhile"));
        server.closes(idle.address(), "peer_fin");
        silent.receives_end();
        let address = silent.address();
        silent.leave();
        server.closes(address, "recv_timeout");
    }
    server.serves_the_next();
    server.comes_back_to_descriptors(descriptors);
    server.stop();
}

/// A peer that was served, and one that was accepted and has sent nothing.
#[track_caller]
fn idle_and_silent(server: &Server) -> (Peer, Peer) {
    let silent = server.peer();
    server.event_about(silent.address(), "client_connect");
    let mut idle = server.peer();
    idle.send_frame(b"before");
    idle.receives_frame(b"before");
    (idle, silent)
}
