//! What comes back to a peer over real sockets, and how its connection ends, in both models.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use support::{MODELS, Sleepy, config, frame, read_exactly, read_to_end, start};
use trust_net::service::Echo;
use trust_net::wire::{Disconnect, Frames, Limits, Reason};
use trust_net::{Model, Peer, Reply, ServerConfig, Service, Session, socket};

#[test]
fn frames_and_text_come_back_as_they_went_out() {
    for model in MODELS {
        let server = start(config(model.clone()), Echo);
        for message in [frame(b""), frame(b"hello"), frame(&[7; 65_536]), b"plain text".to_vec()] {
            let mut stream = server.connect();
            stream.write_all(&message).unwrap();
            assert_eq!(read_exactly(&mut stream, message.len()), message);
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut stream), b"");
        }
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["PeerFin"; 4], "{model:?}");
        assert_eq!((summary.connections, summary.totals.frames_out), (4, 3));
    }
}

#[test]
fn one_byte_at_a_time_is_answered_frame_by_frame() {
    for model in MODELS {
        let server = start(config(model.clone()), Echo);
        let mut stream = server.connect();
        for message in [frame(b"slow"), frame(b"and slower")] {
            for byte in &message {
                stream.write_all(&[*byte]).unwrap();
            }
            assert_eq!(read_exactly(&mut stream, message.len()), message, "{model:?}");
        }
    }
}

#[test]
fn a_large_stream_comes_back_whole_to_a_peer_that_reads_late() {
    for model in MODELS {
        let server = start(config(model.clone()), Echo);
        let mut stream = server.connect();
        let message: Vec<u8> = (0..200u32).flat_map(|i| frame(&[i as u8; 40_000])).collect();
        let mut sending = stream.try_clone().unwrap();
        let sent = message.clone();
        let sender = std::thread::spawn(move || {
            sending.write_all(&sent).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        server.diary.wait_for("connected 1");
        assert!(read_to_end(&mut stream) == message, "{model:?}");
        sender.join().unwrap();
        let (summary, _) = server.finish();
        assert_eq!(summary.totals.frames_out, 200);
    }
}

#[test]
fn an_answer_survives_a_close_with_unread_bytes() {
    for model in MODELS {
        let server = start(config(model.clone()), Echo);
        let mut stream = server.connect();
        let good = frame(b"owed");
        stream.write_all(&[&good[..], &[0, 0xff, 0xff, 0xff], &[1; 100_000]].concat()).unwrap();
        assert_eq!(read_to_end(&mut stream), good, "{model:?}: EOF, not a reset");
        drop(stream);
        server.diary.wait_for("closed 1 FrameTooLarge { declared: 16777215 }");
    }
}

#[test]
fn silence_ends_at_the_timeout_and_not_before() {
    for model in MODELS {
        let timeout = Duration::from_millis(150);
        let limits = Limits { timeout: Some(timeout), ..Limits::default() };
        let server = start(ServerConfig { limits, ..config(model.clone()) }, Echo);
        for sent in [&b""[..], b"\0\0", b"\0\0\0\x09half"] {
            let started = Instant::now();
            let mut stream = server.connect();
            stream.write_all(sent).unwrap();
            assert_eq!(read_to_end(&mut stream), b"");
            assert!(started.elapsed() >= timeout);
        }
        let (_, diary) = server.finish();
        assert_eq!(diary.reasons(), ["RecvTimeout"; 3], "{model:?}");
    }
}

#[test]
fn a_peer_that_never_reads_is_cut() {
    for model in MODELS {
        let timeout = Duration::from_millis(200);
        let limits = Limits { timeout: Some(timeout), ..Limits::default() };
        let server = start(ServerConfig { limits, ..config(model.clone()) }, Echo);
        let mut stream = server.connect();
        let error = std::iter::repeat_with(|| stream.write_all(&[7; 65_536]))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(error.raw_os_error(), Some(104), "ECONNRESET");
        server.diary.wait_for("closed 1 SendTimeout");
    }
}

/// Counts its sessions and answers each run of frames with one frame: how many they were.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicI64>);

struct Counted(Counting);

impl Service for Counting {
    type Session = Counted;

    fn accept(&self, _peer: Peer) -> Counted {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }
}

impl Session for Counted {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        reply.write_frame(&frames.count().to_be_bytes());
    }

    fn close(self, disconnect: &Disconnect) {
        assert_ne!(disconnect.reason, Reason::IoError);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn frames_of_one_segment_reach_the_service_together() {
    let server = start(config(Model::Event), Counting::default());
    let mut stream = server.connect();
    stream.write_all(&frame(b"x").repeat(1000)).unwrap();
    let answer = read_exactly(&mut stream, 12);
    let together = u64::from_be_bytes(answer[4..].try_into().unwrap());
    assert!(together > 1, "all frames that one receive brings in are one run");
}

#[test]
fn a_session_is_dropped_on_every_kind_of_end() {
    for model in MODELS {
        let service = Counting::default();
        let limits = Limits { timeout: Some(Duration::from_millis(100)), ..Limits::default() };
        let server = start(ServerConfig { limits, ..config(model.clone()) }, service.clone());
        drop(server.connect());
        let mut truncated = server.connect();
        truncated.write_all(b"\0\0\0").unwrap();
        drop(truncated);
        let reset = server.connect();
        socket::reset_on_close(std::os::fd::AsFd::as_fd(&reset));
        drop(reset);
        let mut too_large = server.connect();
        too_large.write_all(b"\0\xff\xff\xff").unwrap();
        drop(too_large);
        let silent = server.connect();
        server.diary.wait_for("closed 5 RecvTimeout");
        drop(silent);
        let (summary, diary) = server.finish();
        assert_eq!(service.0.load(Ordering::SeqCst), 0, "{model:?}");
        assert_eq!((summary.connections, diary.reasons().len()), (5, 5));
    }
}

#[test]
fn urgent_data_stay_in_the_stream_and_hide_nothing_behind_them() {
    let last = frame(b"after");
    for model in MODELS {
        let server =
            start(config(model.clone()), Sleepy(Duration::from_millis(200), Arc::default()));
        let mut stream = server.connect();
        // So that all of it is there before any of it is received.
        stream.write_all(&frame(b"sleep")).unwrap();
        stream.write_all(&frame(b"before")).unwrap();
        stream.write_all(&last[..6]).unwrap();
        socket2::SockRef::from(&stream).send_out_of_band(&last[6..7]).unwrap();
        stream.write_all(&last[7..]).unwrap();
        let expected = [&frame(b"sleep")[..], &frame(b"before"), &last].concat();
        assert_eq!(read_exactly(&mut stream, expected.len()), expected, "{model:?}");
    }
}

#[test]
fn the_frame_timeout_runs_from_the_first_byte_of_the_header() {
    for model in MODELS {
        let limits = Limits {
            timeout: None,
            frame_timeout: Some(Duration::from_millis(150)),
            ..Limits::default()
        };
        let server = start(ServerConfig { limits, ..config(model.clone()) }, Echo);
        let mut stream = server.connect();
        stream.write_all(&frame(b"whole")).unwrap();
        assert_eq!(read_exactly(&mut stream, 9), frame(b"whole"));
        stream.write_all(b"\0").unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().raw_os_error(), Some(104), "{model:?}");
        server.diary.wait_for("closed 1 FrameTimeout");
    }
}
