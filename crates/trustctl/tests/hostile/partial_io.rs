//! Calls that transfer less than asked, or that fail and must be repeated.

use std::ffi::OsString;
use std::io::Write;
use std::thread;

use rustix::net::SendFlags;

use super::case::Case;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::net::Network;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::program::Home;
use trust_testkit::scene::{Scene, totals};
use trust_testkit::server::Server;
use trust_testkit::tools::{Trace, most_in_a_second, times_of};

pub(crate) const CASES: &[Case] = &[
    Case::new("one byte per segment", one_byte_per_segment).alias(9),
    Case::new("split at every offset", split_at_every_offset).alias(10),
    Case::new("ten thousand frames in one write", ten_thousand_frames).alias(11),
    Case::new("server's sends made short", short_sends).alias(12),
    Case::new("EINTR and EAGAIN from every call", interrupted_calls).alias(13),
    Case::new("ready, but EAGAIN for two seconds", ready_but_eagain)
        .alias(67)
        .except(&[(Model::Process, "its children serve as the program of a super-server does")])
        .and_once(client_is_ready_but_eagain),
];

fn one_byte_per_segment(model: Model) {
    let scene = Scene::start(model, &[]);
    let mut peer = scene.peer();
    let mut sent = 0;
    for length in [0, 1, 5, 300] {
        let bytes = frame(&pattern(length));
        for byte in &bytes {
            peer.send(&[*byte]);
            // So that the next one does not come with it.
            scene.takes_all_of(&peer);
        }
        peer.receives(&bytes);
        sent += bytes.len() as u64;
    }
    assert_eq!(totals(&scene.sees_off(peer)), [sent, sent, 4, 4]);

    let mut raw = scene.peer();
    for byte in b"raw\0\n\xFF" {
        raw.send(&[*byte]);
        raw.receives(&[*byte]);
    }
    assert_eq!(totals(&scene.sees_off(raw)), [6, 6, 0, 0]);
    scene.ends();
}

fn split_at_every_offset(model: Model) {
    let frames = [frame(&pattern(60)), frame(b"and the second one")].concat();
    let scene = Scene::start(model, &[]);
    for offset in 0..=frames.len() {
        let mut peer = scene.peer();
        peer.send(&frames[..offset]);
        scene.takes_all_of(&peer);
        peer.send(&frames[offset..]);
        peer.receives(&frames);
        let bytes = frames.len() as u64;
        assert_eq!(totals(&scene.sees_off(peer)), [bytes, bytes, 2, 2], "split at {offset}");
    }
    scene.ends();
}

fn ten_thousand_frames(model: Model) {
    const FRAMES: u32 = 10_000;
    let numbered = |number: u32| frame(&number.to_be_bytes().repeat(1 + number as usize % 8));
    let frames: Vec<u8> = (0..FRAMES).flat_map(numbered).collect();
    let scene = Scene::start(model, &[]);
    let mut peer = scene.peer();
    let writer = peer.twin();
    thread::scope(|scope| {
        let write = || rustix::net::send(writer.stream(), &frames, SendFlags::NOSIGNAL);
        let writing = scope.spawn(write);
        peer.receives(&frames);
        let written = writing.join().expect("the writer does not panic");
        assert_eq!(written, Ok(frames.len()), "bytes taken by the one write");
    });
    drop(writer);
    let bytes = frames.len() as u64;
    let frames = u64::from(FRAMES);
    assert_eq!(totals(&scene.sees_off(peer)), [bytes, bytes, frames, frames]);
    scene.ends();
}

fn short_sends(model: Model) {
    /// Much less than a frame. The peer's window is as small; otherwise a single buffer would take
    /// it all.
    const SEND_BUFFER: usize = 8_192;
    const FRAMES: usize = 40;
    let frames = frame(&pattern(30_000)).repeat(FRAMES);
    let trace = Trace::new();
    let network = Network::create();
    let buffers = format!("{SEND_BUFFER} {SEND_BUFFER} {SEND_BUFFER}");
    network.set("ipv4/tcp_wmem", &buffers);
    let events = network.inside(|| {
        let server = start_under(trace.wrapper("sendto,sendmsg", &[]), model, &[]);
        let scene = Scene::beside_a_witness(model, server);
        let mut peer = Peer::connect_with_receive_buffer(scene.address(), SEND_BUFFER);
        let mut writer = peer.twin();
        thread::scope(|scope| {
            scope.spawn(|| writer.send(&frames));
            peer.receives(&frames);
        });
        drop(writer);
        let (bytes, count) = (frames.len() as u64, FRAMES as u64);
        assert_eq!(totals(&scene.sees_off(peer)), [bytes, bytes, count, count]);
        scene.ends()
    });
    let lines = trace.lines_after_end_of(&event::named(&events, "server_start"));
    let short = lines.iter().filter(|line| is_short_send(line)).count();
    assert!(short >= FRAMES, "only {short} sends were short");
}

fn interrupted_calls(model: Model) {
    let (receives, sends, wait) = match model {
        Model::Iterative => (&["recvfrom"][..], &["sendto"][..], "ppoll"),
        _ => (&["recvfrom", "recvmsg"][..], &["sendto", "sendmsg"][..], "epoll_wait"),
    };
    for errno in ["EINTR", "EAGAIN"] {
        let trace = Trace::new();
        let inject = |call: &&str| {
            // The main thread's first sends are not to clients: they test its signal pipes, and a
            // server with children has one more such pipe.
            let first = match (*call, model) {
                ("sendto", Model::Process) => 6,
                ("sendto", _) => 4,
                _ => 2,
            };
            format!("{call}:error={errno}:when={first}+3")
        };
        // A super-server's program accepts no connections.
        let accept = if model == Model::Inetd { &[][..] } else { &["accept4"] };
        let calls = [receives, sends, &[wait], accept].concat();
        let injections: Vec<String> = calls.iter().map(inject).collect();
        let wrapper = trace.wrapper(&calls.join(","), &injections);
        let server = start_under(wrapper, model, &["--log-level", "debug"]);
        let scene = Scene::beside_a_witness(model, server);
        for _ in 0..5 {
            converse(&scene);
        }
        let events = scene.ends();
        warns_of_nothing(&events);
        let interruptions = event::named(&events, "interrupted").len();

        let lines = trace.lines_after_end_of(&event::named(&events, "server_start"));
        if errno == "EINTR" {
            assert!(interruptions > 0, "no interruption logged");
        } else {
            // The signal that stops the server may interrupt a call as well.
            let signals = lines.iter().filter(|line| line.contains("--- SIG")).count();
            assert!(interruptions <= signals, "{interruptions} interruptions, {signals} signals");
        }
        for call in &calls {
            let injected = format!(" {call}(");
            let is_it = |line: &&String| line.contains(&injected) && line.contains("(INJECTED)");
            let count = lines.iter().filter(is_it).count();
            assert!(count > 1, "{errno} came from {call} {count} times with {}", model.name());
        }
    }
}

/// Failures that take more than two seconds if they are not too frequent.
const FAILURES: usize = 25;

/// While the kernel is short of memory for TCP, it reports a socket writable and takes nothing.
/// Asking on and on keeps a core busy; giving up leaves the peer without its answer.
fn ready_but_eagain(model: Model) {
    const ALL: &str = "accept4,recvfrom,sendto,epoll_wait,epoll_ctl,ppoll";
    let _needed = Trace::new();
    let fails = |call: &'static str, first: usize| {
        let trace = Trace::new();
        let inject = format!("{call}:error=EAGAIN:when={first}..{}", first + FAILURES - 1);
        let server = start_under(trace.wrapper(ALL, &[inject]), model, &["--timeout", "60"]);
        let mut peer = server.peer();
        // The first of these calls go through, and some are not for clients.
        for _ in 0..2 * first {
            peer.send(b"?");
            peer.receives(b"?");
        }
        let address = peer.address();
        peer.half_close();
        peer.receives_end();
        server.closes(address, "peer_fin");
        let events = server.stop();
        warns_of_nothing(&events);
        let lines = trace.lines_after_end_of(&event::named(&events, "server_start"));
        failed_with_pauses(&lines, call);
    };
    // They mostly wait.
    thread::scope(|scope| {
        // The main thread's first sends test its signal pipes.
        scope.spawn(|| fails("sendto", 4));
        scope.spawn(|| fails("recvfrom", 2));
        if model != Model::Inetd {
            scope.spawn(|| fails("accept4", 1));
        }
    });
}

fn client_is_ready_but_eagain() {
    /// Each is one send; some of the first calls test signal pipes.
    const MESSAGES: usize = 20;
    let trace = Trace::new();
    let server = Server::start(["--timeout", "60"]);
    let inject = format!("sendto:error=EAGAIN:when=10..{}", 10 + FAILURES - 1);
    let wrapper = trace.wrapper("recvfrom,sendto,poll,ppoll", &[inject]);
    let home = Home::new();
    let port = server.port().to_string();
    let client = home.trustctl_under(&wrapper, ["echo-client", "127.0.0.1", &port]);
    let (client, mut input) = client.start_with_input();
    for message in 1..=MESSAGES {
        input.write_all(b"?\n").expect("write a line");
        client.wait_for_output(2 * message);
    }
    drop(input);
    client.wait().exits_with(0);
    let ended = |line: &String| line.contains("+++ exited with 0 +++");
    kernel::wait_until("the end of the trace", || trace.lines().iter().any(ended));
    failed_with_pauses(&trace.lines(), "sendto");
    server.stop();
}

/// Checks that the call failed as often as it should, and how many calls were made meanwhile.
#[track_caller]
fn failed_with_pauses(lines: &[String], call: &str) {
    /// Calls of one kind in any second: ten pauses, and the calls before the first one.
    const MAX_A_SECOND: usize = 20;
    /// All calls that concern sockets: waiting, asking, and the one that fails.
    const MAX_OF_ALL: usize = 100;
    // If another thread interrupted the call in the trace, this is its second line.
    let calls = times_of(lines, &[&format!(" {call}"), "(INJECTED)"]);
    // The signal thread's calls may fail too.
    assert!(calls.len() >= FAILURES, "{call} failed at {calls:?}");
    let most = most_in_a_second(&calls);
    assert!(most <= MAX_A_SECOND, "{most} calls of {call} in a second, at {calls:?}");
    let span = calls[0]..calls[FAILURES - 1];
    let all = times_of(lines, &["("]).into_iter();
    let all: Vec<f64> = all.filter(|time| span.contains(time)).collect();
    let most = most_in_a_second(&all);
    assert!(most <= MAX_OF_ALL, "{most} calls in a second while {call} fails");
}

/// Frames in all ways that lead to different calls, and raw bytes.
#[track_caller]
fn converse(scene: &Scene) {
    let mut peer = scene.peer();
    let (first, second) = (frame(&pattern(1_000)), frame(b"second"));
    for _ in 0..10 {
        peer.send(&first);
        peer.receives(&first);
        // The end of one frame and another frame after it.
        peer.send(&first[..500]);
        scene.takes_all_of(&peer);
        peer.send(&[&first[500..], &second].concat());
        peer.receives(&first);
        peer.receives(&second);
    }
    let large = pattern(65_536);
    peer.send_frame(&large);
    peer.receives_frame(&large);
    let bytes = (20 * first.len() + 10 * second.len() + 4 + large.len()) as u64;
    assert_eq!(totals(&scene.sees_off(peer)), [bytes, bytes, 31, 31]);

    let mut raw = scene.peer();
    for word in [&b"raw"[..], b"bytes", &large] {
        raw.send(word);
        raw.receives(word);
    }
    scene.sees_off(raw);
}

/// Only the stop, which the test itself requested, is worth a warning.
#[track_caller]
fn warns_of_nothing(events: &[Event]) {
    let is_bad = |event: &&Event| ["warn", "error"].contains(&event.text("level"));
    let found: Vec<&Event> =
        events.iter().filter(is_bad).filter(|event| event.name() != "signal_received").collect();
    assert!(found.is_empty(), "warnings without a cause: {found:?}");
}

/// Whether the line of a trace is a `sendto` that took some of the bytes but not all.
fn is_short_send(line: &str) -> bool {
    let Some((call, taken)) = line.rsplit_once(" = ") else { return false };
    // … , LENGTH, FLAGS, NULL, 0)
    let length = call.rsplit(", ").nth(3).and_then(|length| length.parse::<u64>().ok());
    let taken = taken.trim().parse::<u64>().ok();
    line.contains(" sendto(") && matches!((taken, length), (Some(1..), Some(_))) && taken < length
}

#[track_caller]
fn start_under(wrapper: Vec<OsString>, model: Model, flags: &[&str]) -> Server {
    Server::of_under(model, Home::new(), flags, move |home, arguments| {
        home.trustctl_under(&wrapper, arguments)
    })
}
