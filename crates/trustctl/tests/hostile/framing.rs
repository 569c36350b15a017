//! Frames: lengths, limits, garbage.

use std::thread;

use super::case::Case;
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::scene::{Scene, totals};

pub(crate) const CASES: &[Case] = &[
    Case::new("empty frame", empty_frame).alias(1),
    Case::new("lengths 1, MAX-1, MAX", lengths_up_to_the_limit).alias(2),
    Case::new("length MAX+1", length_above_the_limit).alias(3),
    Case::new("lengths with the sign bit", lengths_with_the_sign_bit).alias(4),
    Case::new("little-endian length, HTTP request", other_protocols).alias(5),
    Case::new("good, good, bad in one segment", good_good_bad).alias(6),
    Case::new("rubbish after 4 MB of owed answers", rubbish_after_answers).alias(7),
    Case::new("a million empty frames", a_million_empty_frames).alias(8),
    Case::new("urgent data", urgent_data).alias(66),
];

/// Lingering may take as long as a step of the test: no peer here is meant to be cut off.
const FRAMED: [&str; 4] = ["--mode", "framed", "--linger-timeout", "10"];

/// The largest payload by default, inclusive.
const MAX_PAYLOAD: usize = 65_536;

const MIB: u64 = 1 << 20;

fn empty_frame(model: Model) {
    let scene = Scene::start(model, &FRAMED);
    let mut peer = scene.peer();
    peer.send(&[0, 0, 0, 0]);
    peer.receives(&[0, 0, 0, 0]);
    assert_eq!(totals(&scene.sees_off(peer)), [4, 4, 1, 1]);
    scene.ends();
}

fn lengths_up_to_the_limit(model: Model) {
    // The last one is more than a single receive takes.
    for max in [2_000, MAX_PAYLOAD, 2 << 20] {
        let max_frame = max.to_string();
        let scene = Scene::start(model, &[&FRAMED[..], &["--max-frame", &max_frame]].concat());
        let mut peer = scene.peer();
        let mut sent = 0;
        for length in [1, max - 1, max] {
            // Payloads larger than all buffers come back only while they are still being sent.
            let mut writer = peer.twin();
            let payload = pattern(length);
            thread::scope(|scope| {
                scope.spawn(|| writer.send_frame(&payload));
                peer.receives_frame(&payload);
            });
            sent += 4 + length as u64;
        }
        assert_eq!(totals(&scene.sees_off(peer)), [sent, sent, 3, 3]);
        scene.ends();
    }
}

fn length_above_the_limit(model: Model) {
    let scene = Scene::start(model, &FRAMED);
    let length = MAX_PAYLOAD as u32 + 1;
    is_refused(&scene, length.to_be_bytes(), &pattern(MAX_PAYLOAD + 1));
    scene.ends();
    let scene = Scene::start(model, &[&FRAMED[..], &["--max-frame", "2000"]].concat());
    is_refused(&scene, 2_001_u32.to_be_bytes(), &pattern(2_001));
    scene.ends();
}

fn lengths_with_the_sign_bit(model: Model) {
    let scene = Scene::start(model, &FRAMED);
    let [resident, reserved] = is_refused(&scene, [0, 1, 0, 1], b"rest");
    for length in [0x8000_0000_u32, 0xFFFF_FFFF] {
        let [resident_after, reserved_after] =
            is_refused(&scene, length.to_be_bytes(), &pattern(100_000));
        let grown = resident_after.saturating_sub(resident);
        assert!(grown <= 4 * MIB, "{grown} bytes more in RAM");
        let grown = reserved_after.saturating_sub(reserved);
        assert!(grown < 1_024 * MIB, "{grown} bytes more of address space");
    }
    scene.ends();
}

fn other_protocols(model: Model) {
    let scene = Scene::start(model, &FRAMED);
    is_refused(&scene, [5, 0, 0, 0], b"hello");
    is_refused(&scene, *b"GET ", b"/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
    scene.ends();
}

fn good_good_bad(model: Model) {
    let scene = Scene::start(model, &FRAMED);
    let mut peer = scene.peer();
    let address = peer.address();
    let good = [frame(b"one"), frame(b"two")].concat();
    let bad = [0x01, 0x00, 0x00, 0x00];
    // The frame after it would be valid, but must be ignored.
    let sent = [good.as_slice(), &bad, &frame(b"three")].concat();
    peer.send(&sent);
    peer.receives_to_end(&good);
    assert!(scene.event_about(address, "frame_too_large").mentions(1 << 24));
    peer.leave();
    let close = scene.closes(address, "frame_too_large");
    assert_eq!(totals(&close), [sent.len() as u64, good.len() as u64, 2, 2]);
    scene.ends();
}

fn rubbish_after_answers(model: Model) {
    const RUBBISH: usize = 10_000_000;
    let answers = frame(&pattern(MAX_PAYLOAD)).repeat(64);
    let [header, rubbish] = [vec![0xFF; 4], pattern(RUBBISH)];
    let sent = [answers.as_slice(), &header, &rubbish].concat();
    // Limits that do not expire while the peer waits before it reads.
    let limits = ["--timeout", "20"];
    let scene = Scene::start(model, &[&FRAMED[..], &limits].concat());
    let mut peer = Peer::connect_with_receive_buffer(scene.address(), 65_536);
    let (address, mut writer) = (peer.address(), peer.twin());
    thread::scope(|scope| {
        let writing = scope.spawn(|| writer.send(&sent));
        // As late as possible: when nothing moves without it.
        scene.is_stuck_unless(address, || writing.is_finished());
        peer.receives_to_end(&answers);
        scene.event_about(address, "frame_too_large");
    });
    // The end of the stream was orderly, despite the garbage that came after it.
    peer.has_no_error();
    drop((peer, writer));
    let close = scene.closes(address, "frame_too_large");
    assert_eq!(totals(&close), [sent.len() as u64, answers.len() as u64, 64, 64]);
    scene.ends();
}

fn a_million_empty_frames(model: Model) {
    const FRAMES: usize = 1_000_000;
    let frames = vec![0; 4 * FRAMES];
    let scene = Scene::start(model, &FRAMED);
    // Whatever the first frames allocate exists before memory is measured.
    let mut peer = scene.peer();
    let (first, others) = frames.split_at(40_000);
    peer.send(first);
    peer.receives(first);
    scene.forget_peak_memory();
    let before = scene.memory("VmHWM");

    let mut writer = peer.twin();
    thread::scope(|scope| {
        scope.spawn(|| writer.send(others));
        peer.receives(others);
    });
    drop(writer);
    let grown = scene.memory("VmHWM").saturating_sub(before);
    assert!(grown <= 2 * MIB, "{grown} bytes more in RAM at the most");
    let bytes = frames.len() as u64;
    let close = scene.sees_off(peer);
    assert_eq!(totals(&close), [bytes, bytes, FRAMES as u64, FRAMES as u64]);
    scene.ends();
}

/// Sends a valid frame and then this header. The frame is answered, the header is refused once
/// complete, and the rest is discarded until the peer has seen the end of the stream. Returns the
/// memory that it took.
#[track_caller]
fn is_refused(scene: &Scene, header: [u8; 4], rest: &[u8]) -> [u64; 2] {
    let mut peer = scene.peer();
    let address = peer.address();
    let good = frame(b"before");
    peer.send(&[&good, &header[..3]].concat());
    peer.receives(&good);
    scene.takes_all_of(&peer);
    assert!(scene.socket_of(address).is_established, "refused after three bytes of {header:?}");
    peer.send(&header[3..]);
    let refused = scene.event_about(address, "frame_too_large");
    let declared = u64::from(u32::from_be_bytes(header));
    assert_eq!(refused.count("declared_bytes"), declared, "{refused:?}");
    assert_eq!(refused.text("level"), "warn", "{refused:?}");
    peer.send(rest);
    peer.receives_end();
    // If the connection were closed by now, this would be answered with RST.
    peer.send(rest);
    scene.takes_all_of(&peer);
    peer.has_no_error();
    let memory = memory(scene);
    peer.leave();
    let close = scene.closes(address, "frame_too_large");
    let (bytes_in, bytes_out) = (good.len() + 4 + 2 * rest.len(), good.len());
    assert_eq!(totals(&close), [bytes_in as u64, bytes_out as u64, 1, 1], "{close:?}");
    memory
}

/// Resident bytes, and the peak address space.
fn memory(scene: &Scene) -> [u64; 2] {
    [scene.memory("VmRSS"), scene.memory("VmPeak")]
}

/// A byte marked as urgent belongs to the stream (RFC 6093), wherever it is.
fn urgent_data(model: Model) {
    let scene = Scene::start(model, &[]);
    let mut raw = scene.peer();
    raw.send(b"abc");
    raw.send_urgent(b'!');
    raw.send(b"def");
    raw.receives(b"abc!def");
    // Alone, and before everything else.
    raw.send_urgent(b'?');
    raw.receives(b"?");
    assert_eq!(totals(&scene.sees_off(raw)), [8, 8, 0, 0]);

    let whole = frame(&pattern(300));
    for urgent in [0, 3, 4, 100, whole.len() - 1] {
        let mut peer = scene.peer();
        peer.send(&whole[..urgent]);
        peer.send_urgent(whole[urgent]);
        peer.send(&whole[urgent + 1..]);
        peer.receives(&whole);
        let bytes = whole.len() as u64;
        assert_eq!(totals(&scene.sees_off(peer)), [bytes, bytes, 1, 1], "urgent is byte {urgent}");
    }
    scene.ends();
}
