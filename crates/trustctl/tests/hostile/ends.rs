//! FIN, RST and death, at every moment.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::case::Case;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::leftovers::OwnedChild;
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::scene::{Scene, totals};

pub(crate) const CASES: &[Case] = &[
    Case::new("connect, FIN", connect_and_fin).alias(14),
    Case::new("FIN inside a frame", fin_inside_a_frame).alias(15),
    Case::new("8 MB and FIN, read a second later", late_reader).alias(16),
    Case::new("half-close and never read", half_close_and_never_read).alias(17),
    Case::new("RST before and after accept, in echo", resets).alias(18),
    Case::new("RST while lingering", reset_while_lingering).alias(19),
    Case::new("peer process killed", peer_process_killed).alias(20),
    Case::new("half-closed, then RST, owing", reset_after_a_half_close),
    Case::new("a reset before the first byte", reset_before_the_first_byte),
];

/// The possible reasons after a reset: which one depends on the call that meets the RST.
const RESET_REASONS: [&str; 2] = ["client_reset", "broken_pipe"];

/// The receive buffer of a peer that takes next to nothing without reading.
const SMALL_BUFFER: usize = 16 * 1024;

const MIB: u64 = 1 << 20;

fn connect_and_fin(model: Model) {
    let scene = Scene::start(model, &[]);
    let mut peer = scene.peer();
    let address = peer.address();
    peer.half_close();
    peer.receives_end();
    let close = scene.closes(address, "peer_fin");
    assert_eq!(totals(&close), [0; 4]);
    assert_eq!(scene.event_about(address, "client_disconnect").text("level"), "info");
    // The same with everything closed at once.
    let peer = scene.peer();
    let address = peer.address();
    peer.leave();
    assert_eq!(totals(&scene.closes(address, "peer_fin")), [0; 4]);
    for event in scene.ends() {
        let is_asked_for = event.name() == "signal_received";
        assert!(is_asked_for || event.text("level") == "info", "no cause for {event:?}");
    }
}

fn fin_inside_a_frame(model: Model) {
    let whole = [frame(b"one"), frame(b""), frame(&pattern(70))].concat();
    let unfinished = frame(&pattern(1_000));
    let scene = Scene::start(model, &[]);
    for have in [1, 2, 3, 4, 5, 600, unfinished.len() - 1] {
        let mut peer = scene.peer();
        let address = peer.address();
        peer.send(&[&whole, &unfinished[..have]].concat());
        peer.half_close();
        peer.receives_to_end(&whole);
        let truncated = scene.event_about(address, "truncated_frame");
        let need = if have < 4 { 4 } else { unfinished.len() };
        let counts = ["have_bytes", "need_bytes"].map(|key| truncated.count(key));
        assert_eq!(counts, [have as u64, need as u64], "{truncated:?}");
        assert_eq!(truncated.text("level"), "warn", "{truncated:?}");
        scene.event_about(address, "client_disconnect");
        let close = scene.closes(address, "truncated_frame");
        let sent = (whole.len() + have) as u64;
        assert_eq!(totals(&close), [sent, whole.len() as u64, 3, 3]);
    }
    scene.ends();
}

fn late_reader(model: Model) {
    const LATE: Duration = Duration::from_secs(1);
    let framed = frame(&pattern(65_536)).repeat(128);
    let raw = pattern(8 << 20);
    let scene = Scene::start(model, &["--timeout", "20", "--linger-timeout", "10"]);
    for (bytes, frames) in [(&framed, 128), (&raw[1..].to_vec(), 0)] {
        let mut peer = scene.peer();
        let (address, mut writer) = (peer.address(), peer.twin());
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.send(bytes);
                writer.half_close();
            });
            // The peer's pause, not a wait of the test.
            thread::sleep(LATE);
            peer.receives_to_end(bytes);
        });
        let close = scene.closes(address, "peer_fin");
        let count = bytes.len() as u64;
        assert_eq!(totals(&close), [count, count, frames, frames]);
    }
    scene.ends();
    writes_before_it_reads(model);
}

/// A peer that writes everything before it would begin to read.
fn writes_before_it_reads(model: Model) {
    /// More than all buffers on the way can ever hold.
    const TOO_MUCH: usize = 256 << 20;
    const TIMEOUT: Duration = Duration::from_secs(1);
    let scene = Scene::start(model, &["--timeout", "1"]);
    let mut peer = Peer::connect_with_receive_buffer(scene.address(), SMALL_BUFFER);
    let address = peer.address();
    // If it has its own process, that process exists by now.
    peer.send(b"x");
    peer.receives(b"x");
    scene.forget_peak_memory();
    let before = scene.memory("VmHWM");
    let (block, mut written, mut highest) = (vec![b'x'; 1 << 16], 0, before);
    let began = Instant::now();
    let error = loop {
        // By the end of the last write, which blocks, the process may be gone.
        highest = highest.max(scene.memory("VmHWM"));
        match peer.stream().write(&block) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
        assert!(written < TOO_MUCH, "{written} bytes were taken and none was read");
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {written} bytes: {error}");
    assert!(began.elapsed() >= TIMEOUT, "cut after {:?}", began.elapsed());
    is_send_timeout(&scene, address);
    let grown = highest.max(scene.memory("VmHWM")) - before;
    assert!(grown <= 2 * MIB, "{grown} bytes more in RAM at the most");
    drop(peer);
    scene.ends();
}

fn half_close_and_never_read(model: Model) {
    let frames = frame(&pattern(65_536));
    let scene = Scene::start(model, &["--timeout", "2"]);
    let mut peer = Peer::connect_with_receive_buffer(scene.address(), SMALL_BUFFER);
    let address = peer.address();
    let began = Instant::now();
    scene.overfills(&peer, &frames);
    peer.half_close();
    is_send_timeout(&scene, address);
    assert!(began.elapsed() >= Duration::from_secs(2), "cut after {:?}", began.elapsed());
    peer.receives_reset();
    scene.ends();
}

fn resets(model: Model) {
    let scene = Scene::start(model, &[]);
    reset_after_accept(&scene);
    reset_before_accept(&scene, model);
    reset_within_an_echo(&scene);
    scene.ends();
    if model == Model::Iterative {
        reset_in_the_queue_of_a_busy_server();
    }
}

fn reset_after_accept(scene: &Scene) {
    let peer = scene.peer();
    let address = peer.address();
    scene.event_about(address, "client_connect");
    peer.reset();
    is_reset(scene, address);
    assert_eq!(totals(&scene.closes(address, "client_reset")), [0; 4]);
}

/// The kernel has established and ended the connection before the server learns of it.
fn reset_before_accept(scene: &Scene, model: Model) {
    let mut seen = Vec::new();
    for sent in [&b""[..], &frame(b"never to be answered"), &frame(b"unfinished")[..9]] {
        scene.pause();
        let mut peer = scene.peer();
        let address = peer.address();
        peer.send(sent);
        peer.reset();
        scene.resume();
        if model == Model::Inetd {
            seen.push(is_reset_unseen(scene, &seen));
        } else {
            is_reset(scene, address);
        }
    }
}

/// A program started for a connection that was reset cannot know the peer's address. Returns the
/// identity of the run, which is none of those seen before.
#[track_caller]
fn is_reset_unseen(scene: &Scene, seen: &[String]) -> String {
    let is_new = |close: &Event| {
        close.text("peer") == "0.0.0.0:0" && !seen.iter().any(|run| run == close.request_id())
    };
    let close = scene.wait_for_event("client_close", is_new, STEP_DEADLINE);
    assert!(RESET_REASONS.contains(&close.text("reason")), "{close:?}");
    close.request_id().to_owned()
}

/// While a frame is arriving, and while answers are being sent and more are owed than the kernel
/// takes.
fn reset_within_an_echo(scene: &Scene) {
    let long = frame(&pattern(65_536));
    let mut peer = scene.peer();
    let address = peer.address();
    peer.send(&[&frame(b"whole"), &long[..30_000]].concat());
    peer.receives_frame(b"whole");
    peer.reset();
    is_reset(scene, address);
    assert_eq!(scene.event_about(address, "client_close").count("frames_in"), 1);

    for bytes in [&long, &pattern(100_000)[1..].to_vec()] {
        let peer = Peer::connect_with_receive_buffer(scene.address(), SMALL_BUFFER);
        let address = peer.address();
        scene.overfills(&peer, bytes);
        peer.reset();
        is_reset(scene, address);
    }
}

/// A server that serves one client after another has a queue without being stopped.
fn reset_in_the_queue_of_a_busy_server() {
    let scene = Scene::start(Model::Iterative, &[]);
    let mut served = scene.peer();
    served.send_frame(b"first");
    served.receives_frame(b"first");
    let waiting = scene.peer();
    let address = waiting.address();
    waiting.reset();
    served.send_frame(b"still served");
    served.receives_frame(b"still served");
    scene.sees_off(served);
    is_reset(&scene, address);
    scene.ends();
}

fn reset_while_lingering(model: Model) {
    // Only the RST can end lingering before the test's deadline does.
    let scene = Scene::start(model, &["--timeout", "1", "--linger-timeout", "60"]);
    let lingers = |bytes: &[u8], reason: &str| {
        let mut peer = scene.peer();
        let address = peer.address();
        peer.send(bytes);
        peer.receives_end();
        scene.event_about(address, reason);
        peer.reset();
        scene.closes(address, reason);
        address.to_string()
    };
    let peers = [lingers(&[0, 0xFF, 0, 0], "frame_too_large"), lingers(b"", "recv_timeout")];
    let events = scene.ends();
    for name in RESET_REASONS {
        for event in event::named(&events, name) {
            let peer = event.text("peer");
            assert!(!peers.iter().any(|lingering| lingering == peer), "a second cause: {event:?}");
        }
    }
}

/// When the RST comes, the FIN has arrived after bytes that are not read because answers are owed.
fn reset_after_a_half_close(model: Model) {
    // Longer than a step may take, so that only the RST can end it.
    let scene = Scene::start(model, &["--timeout", "60"]);
    let message = frame(&pattern(65_536));
    let mut peer = Peer::connect_with_receive_buffer(scene.address(), SMALL_BUFFER);
    let address = peer.address();
    let unread = || scene.socket_of(address).unread;
    peer.send(&message);
    scene.is_stuck_unless(address, || unread() == 0);
    // No more than the server's kernel takes, or the FIN would wait in ours.
    while unread() == 0 {
        peer.send(&message);
        scene.is_stuck_unless(address, || unread() == 0);
    }
    peer.half_close();
    kernel::wait_until("the FIN being there", || !scene.socket_of(address).is_established);
    scene.is_stuck_with(address);
    peer.reset();
    is_reset(&scene, address);
    assert_eq!(event::named(&scene.ends(), "send_timeout").len(), 0);
}

fn peer_process_killed(model: Model) {
    let scene = Scene::start(model, &["--timeout", "20"]);
    killed_while_idle(&scene);
    killed_with_data_unread(&scene);
    killed_with_data_owed(&scene);
    scene.ends();
}

/// Everything received has been read, so the kernel closes cleanly in place of the dead process.
fn killed_while_idle(scene: &Scene) {
    let (client, mut input) = scene.echo_client::<&str>([]).start_with_input();
    input.write_all(b"hello\n").expect("write a line");
    client.wait_for_output(b"hello\n".len());
    // It is the first client apart from the witness.
    let witness = scene.witness_address().map(|address| address.to_string());
    let is_it = |event: &Event| Some(event.text("peer")) != witness.as_deref();
    let connect = scene.wait_for_event("client_connect", is_it, STEP_DEADLINE);
    client.signal(Signal::KILL);
    let address = connect.text("peer").parse().expect("an address");
    let close = scene.closes(address, "peer_fin");
    assert_eq!(totals(&close), [9, 9, 1, 1]);
}

fn killed_with_data_unread(scene: &Scene) {
    let mut peer = scene.peer();
    let address = peer.address();
    peer.send_frame(b"to be answered");
    let wanted = frame(b"to be answered").len();
    let mut answer = vec![0; wanted];
    kernel::wait_until("the answer being there", || {
        peer.stream().peek(&mut answer).expect("look at what came") == wanted
    });
    // From here on the connection belongs to a process that never reads.
    let process = OwnedChild::spawn(Command::new("sleep").arg("1000").stdin(socket_of(peer)));
    process.signal(Signal::KILL);
    is_reset(scene, address);
}

fn killed_with_data_owed(scene: &Scene) {
    let peer = Peer::connect_with_receive_buffer(scene.address(), SMALL_BUFFER);
    let address = peer.address();
    let process = OwnedChild::spawn(Command::new("yes").stdout(socket_of(peer)));
    scene.is_stuck_with(address);
    process.signal(Signal::KILL);
    is_reset(scene, address);
    assert!(scene.event_about(address, "client_close").count("bytes_out") > 0);
}

/// Gives the socket to a process about to be started, which is its only owner once that command is
/// dropped.
fn socket_of(peer: Peer) -> Stdio {
    OwnedFd::from(peer.into_stream()).into()
}

/// Checks that the connection ends with a reset, and that the event says so.
#[track_caller]
fn is_reset(scene: &Scene, peer: SocketAddr) {
    let close = scene.closes_with_any(peer, &RESET_REASONS);
    let event = scene.event_about(peer, close.text("reason"));
    let is_probe = event.name() == "client_reset" && close.count("bytes_in") == 0;
    let level = if is_probe { "info" } else { "warn" };
    assert_eq!(event.text("level"), level, "{event:?}");
    let errno_name = if event.name() == "client_reset" { "ECONNRESET" } else { "EPIPE" };
    assert_eq!(event.text("errno_name"), errno_name, "{event:?}");
}

/// Checks that the connection ends because answers made no progress.
#[track_caller]
fn is_send_timeout(scene: &Scene, peer: SocketAddr) {
    const EAGAIN: u64 = 11;
    scene.closes(peer, "send_timeout");
    let event = scene.event_about(peer, "send_timeout");
    assert_eq!(event.count("errno"), EAGAIN, "{event:?}");
    assert_eq!(event.text("level"), "warn", "{event:?}");
    assert!(event.number("timeout_sec") > 0.0, "{event:?}");
}

/// A load balancer probes a server like this. Later, an RST is worth a warning.
fn reset_before_the_first_byte(model: Model) {
    let scene = Scene::start(model, &[]);
    let probe = scene.peer();
    let address = probe.address();
    scene.event_about(address, "client_connect");
    probe.reset();
    let told = scene.event_about(address, "client_reset");
    assert_eq!(told.text("level"), "info", "{told:?}");
    scene.closes(address, "client_reset");

    let mut peer = scene.peer();
    let address = peer.address();
    peer.send(&frame(b"served"));
    peer.receives(&frame(b"served"));
    peer.reset();
    let told = scene.event_about(address, "client_reset");
    assert_eq!(told.text("level"), "warn", "{told:?}");
    scene.closes(address, "client_reset");
    scene.ends();
}
