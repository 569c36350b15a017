//! Peers that speak another protocol: what is reported about them, and that nothing else changes.

use super::case::Case;
use trust_testkit::event::Event;
use trust_testkit::model::Model;
use trust_testkit::peer::{frame, pattern};
use trust_testkit::scene::Scene;

pub(crate) const CASES: &[Case] = &[
    Case::new("other protocols as frames are named", named_where_they_are_refused),
    Case::new("other protocols as raw bytes are named", named_where_they_are_echoed),
    Case::new("little-endian lengths with auto mode", little_endian_lengths),
    Case::new("right frames and text are no other protocol", right_bytes_are_not_accused),
];

const FRAMED: [&str; 2] = ["--mode", "framed"];

const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rest of the first record";

const PROXY_V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x01\x01\x01\x02\x02\x02\x02\0\x03\0\x04";

#[track_caller]
fn says(event: &Event, first_bytes: &str, hint: &str) {
    assert_eq!(event.text("first_bytes"), first_bytes, "{event:?}");
    assert_eq!(event.text("hint"), hint, "{event:?}");
}

fn named_where_they_are_refused(model: Model) {
    let scene = Scene::start(model, &FRAMED);
    let text = "looks like text without frames, which --mode raw or auto echoes";
    let cases: [(&[u8], &str, &str); 5] = [
        (
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1:9900\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:",
            "looks like an HTTP request",
        ),
        (b"hello\n", "hello\n", text),
        (
            CLIENT_HELLO,
            "16 03 01 02 00 01 00 01 fc 03 03 72 65 73 74 20 6f 66 20 74 68 65 20 66 69 72 73 74 \
             20 72 65 63",
            "looks like a TLS ClientHello",
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n\0\0\0\x02hi",
            "PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n",
            "looks like a PROXY protocol header, version 1, which --proxy-protocol reads",
        ),
        (
            PROXY_V2,
            "0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a 21 11 00 0c 01 01 01 01 02 02 02 02 00 03 00 04",
            "looks like a PROXY protocol header, version 2, which --proxy-protocol reads",
        ),
    ];
    for (sent, first_bytes, hint) in cases {
        // In one piece, and with the header in two pieces.
        for first in [sent.len(), 3] {
            let mut peer = scene.peer();
            let address = peer.address();
            let (now, later) = sent.split_at(first);
            peer.send(now);
            scene.takes_all_of(&peer);
            peer.send(later);
            let refused = scene.event_about(address, "frame_too_large");
            says(&refused, first_bytes, hint);
            peer.receives_end();
            peer.leave();
            scene.closes(address, "frame_too_large");
        }
    }
    scene.ends();
}

fn named_where_they_are_echoed(model: Model) {
    let scene = Scene::start(model, &["--mode", "auto"]);
    let cases: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", "looks like an HTTP request"),
        (CLIENT_HELLO, "looks like a TLS ClientHello"),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n\0\0\0\x02hi",
            "looks like a PROXY protocol header, version 1, which --proxy-protocol reads",
        ),
        (PROXY_V2, "looks like a PROXY protocol header, version 2, which --proxy-protocol reads"),
    ];
    // The second time the end comes with the bytes, as from `nc -N`.
    for ((sent, hint), is_at_once) in
        cases.into_iter().flat_map(|case| [(case, false), (case, true)])
    {
        let mut peer = scene.peer();
        let address = peer.address();
        match is_at_once {
            true => {
                scene.pause();
                peer.send(sent);
                peer.half_close();
                scene.resume();
            }
            false => peer.send(sent),
        }
        peer.receives(sent);
        let told = scene.event_about(address, "foreign_protocol");
        assert_eq!((told.text("hint"), told.text("level")), (hint, "info"), "{told:?}");
        if !is_at_once {
            peer.half_close();
        }
        peer.receives_to_end(b"");
        scene.closes(address, "peer_fin");
    }
    scene.ends();
}

fn little_endian_lengths(model: Model) {
    let limits = ["--mode", "auto", "--timeout", "0.3"];
    let scene = Scene::start(model, &limits);
    let hint = "looks like frames with a little-endian length of 4 bytes (u32le)";
    for len in [5_u32, 255, 256, 300, 512] {
        let mut peer = scene.peer();
        let address = peer.address();
        let sent = [&len.to_le_bytes()[..], &pattern(len as usize)].concat();
        peer.send(&sent);
        let (event, reason) = match len {
            // The first byte makes it a frame of 65,536 bytes, which is never completed.
            256 => ("recv_timeout", "recv_timeout"),
            512 => ("frame_too_large", "frame_too_large"),
            _ => ("foreign_protocol", "peer_fin"),
        };
        if event == "foreign_protocol" {
            peer.receives(&sent);
        }
        let told = scene.event_about(address, event);
        assert_eq!(told.text("hint"), hint, "{told:?}");
        peer.leave();
        scene.closes(address, reason);
    }
    scene.ends();
}

fn right_bytes_are_not_accused(model: Model) {
    let scene = Scene::start(model, &["--mode", "auto"]);
    let tricky = frame(b"GET / HTTP/1.1\r\n\r\n");
    for sent in [&tricky, &frame(&pattern(256)), &b"hello\n".to_vec(), &frame(b"\xfeSMB@")] {
        let mut peer = scene.peer();
        peer.send(sent);
        peer.receives(sent);
        scene.sees_off(peer);
    }
    // The first frame stays unfinished, and nothing else is wrong.
    let mut peer = scene.peer();
    let address = peer.address();
    peer.send(b"\0\0\0\x0ahalf");
    peer.half_close();
    let told = scene.event_about(address, "truncated_frame");
    assert!(!told.has("first_bytes") && !told.has("hint"), "{told:?}");
    peer.receives_to_end(b"");
    scene.closes(address, "truncated_frame");
    let events = scene.ends();
    let told = events.iter().find(|event| event.name() == "foreign_protocol");
    assert!(told.is_none(), "{told:?}");
}
