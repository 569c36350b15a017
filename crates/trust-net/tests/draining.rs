//! Servers that stop while clients are at it, over real sockets, in both models.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{DEADLINE, MODELS, Sleepy, config, frame, read_exactly, read_to_end, start};
use trust_net::service::Echo;
use trust_net::wire::Limits;
use trust_net::{Model, ServerConfig, socket};

#[test]
fn a_drain_finishes_the_frame_that_has_begun_and_refuses_newcomers() {
    for model in MODELS {
        let server = start(config(model.clone()), Echo);
        let mut stream = server.connect();
        let message = frame(b"begun before, finished after");
        stream.write_all(&frame(b"first")).unwrap();
        assert_eq!(read_exactly(&mut stream, 9), frame(b"first"));
        // The first byte is in the kernel's queue, whether or not the server has read it.
        stream.write_all(&message[..1]).unwrap();
        server.handle.drain();
        server.diary.wait_for("drain of 1");
        assert!(TcpStream::connect(server.address).is_err());
        stream.write_all(&message[1..]).unwrap();
        assert_eq!(read_to_end(&mut stream), message, "{model:?}");
        drop(stream);
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["Drain"]);
        assert_eq!((summary.drained, summary.cut, summary.cut_short), (1, 0, false));
    }
}

#[test]
fn a_frame_that_begins_after_the_drain_is_not_answered() {
    let server = start(config(Model::Event), Echo);
    let mut stream = server.connect();
    stream.write_all(b"\0\0").unwrap();
    server.diary.wait_for("connected 1");
    let mut idle = server.connect();
    server.diary.wait_for("connected 2");
    server.handle.drain();
    assert_eq!(read_to_end(&mut idle), b"", "connections are told in the order of acceptance");
    stream.write_all(&[b"\0\x01x", &frame(b"too late")[..]].concat()).unwrap();
    assert_eq!(read_to_end(&mut stream), frame(b"x"));
}

#[test]
fn clients_that_were_turned_away_do_not_hold_a_drain_up() {
    // Either would let them stay for too long.
    let too_long = 2 * DEADLINE;
    let limits = Limits { linger_timeout: too_long, ..Limits::default() };
    let limited =
        ServerConfig { limits, max_clients: 1, drain_timeout: too_long, ..config(Model::Event) };
    let server = start(limited, Echo);
    let mut served = server.connect();
    served.write_all(&frame(b"served")).unwrap();
    assert_eq!(read_exactly(&mut served, 10), frame(b"served"));
    let mut rejected: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for stream in &mut rejected {
        assert_eq!(read_to_end(stream), b"");
        // They linger, and they are no silent ones.
        stream.write_all(b"?").unwrap();
    }
    server.handle.drain();
    assert_eq!(read_to_end(&mut served), b"");
    drop(served);
    let began = Instant::now();
    let (summary, diary) = server.finish();
    assert!(began.elapsed() < DEADLINE, "the drain took {:?}", began.elapsed());
    assert_eq!((summary.drained, summary.cut, summary.rejected), (1, 0, 3));
    assert_eq!(diary.reasons(), ["Drain"]);
}

#[test]
fn a_client_in_the_backlog_is_served_by_the_drain() {
    let server = start(config(Model::Iterative), Echo);
    let first = server.connect();
    server.diary.wait_for("connected 1");
    let mut second = server.connect();
    second.write_all(&frame(b"waiting")).unwrap();
    server.handle.drain();
    drop(first);
    assert_eq!(read_to_end(&mut second), frame(b"waiting"));
    drop(second);
    let (summary, _) = server.finish();
    assert_eq!(summary.drained, 2);
}

#[test]
fn a_second_call_cuts_what_is_left() {
    for model in MODELS {
        let server = start(config(model.clone()), Echo);
        let mut stream = server.connect();
        stream.write_all(b"\0\0").unwrap();
        server.handle.drain();
        server.diary.wait_for("drain of 1");
        server.handle.cut();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(104), "{model:?}");
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["SecondSignal"]);
        assert_eq!((summary.cut, summary.cut_short), (1, true));
    }
}

#[test]
fn the_drain_timeout_cuts_unfinished_frames_only() {
    for model in MODELS {
        let drain_timeout = Duration::from_millis(100);
        let server = start(ServerConfig { drain_timeout, ..config(model.clone()) }, Echo);
        let mut stuck = server.connect();
        stuck.write_all(b"\0\0").unwrap();
        server.diary.wait_for("connected 1");
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["DrainTimeout"], "{model:?}");
        assert_eq!(summary.cut, 1);

        let server = start(ServerConfig { drain_timeout, ..config(model.clone()) }, Echo);
        let _idle = server.connect();
        server.diary.wait_for("connected 1");
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["Drain"], "{model:?}");
        assert_eq!((summary.cut, summary.drained), (0, 1));
    }
}

#[test]
fn a_client_that_came_just_before_the_drain_is_served() {
    for model in MODELS {
        let server =
            start(config(model.clone()), Sleepy(Duration::from_millis(300), Arc::default()));
        let mut sleeper = server.connect();
        sleeper.write_all(&frame(b"sleep")).unwrap();
        server.diary.wait_for("connected 1");
        // No worker accepts meanwhile, so none learns that they are there.
        let mut late: Vec<TcpStream> = (0..30).map(|_| server.connect()).collect();
        for client in &mut late {
            client.write_all(&frame(b"still here?")).unwrap();
        }
        server.handle.drain();
        for client in &mut late {
            assert_eq!(read_to_end(client), frame(b"still here?"), "{model:?}");
        }
        // They stay, and linger, and keep no one from being served.
        drop((late, sleeper));
        let (summary, diary) = server.finish();
        assert_eq!((summary.drained, summary.cut), (31, 0), "{:?}", diary.reasons());
    }
}

#[test]
fn clients_that_never_pause_keep_neither_deadlines_nor_a_stop_from_being_looked_at() {
    for (model, clients) in [(Model::Event, 3), (Model::Iterative, 1)] {
        let limits = Limits {
            max_lifetime: Some(Duration::from_millis(300)),
            linger_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let server = start(ServerConfig { limits, ..config(model.clone()) }, Echo);
        let flood = |_| {
            let mut sending = server.connect();
            let mut receiving = sending.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                let message = frame(&[7; 60_000]);
                while sending.write_all(&message).is_ok() {}
            });
            let receiver =
                std::thread::spawn(move || std::io::copy(&mut receiving, &mut std::io::sink()));
            (sender, receiver)
        };
        let floods: Vec<_> = (0..clients).map(flood).collect();
        for id in 1..=clients {
            server.diary.wait_for(&format!("closed {id} MaxLifetime"));
        }
        let (summary, _) = server.finish();
        assert_eq!(summary.connections, clients, "{model:?}");
        for (sender, receiver) in floods {
            sender.join().unwrap();
            let _ = receiver.join().unwrap();
        }
    }
}

#[test]
fn a_drain_without_patience_cuts_nobody_who_is_idle() {
    for model in MODELS {
        let drain_timeout = Duration::ZERO;
        let server = start(ServerConfig { drain_timeout, ..config(model.clone()) }, Echo);
        let mut stream = server.connect();
        stream.write_all(&frame(b"before")).unwrap();
        assert_eq!(read_exactly(&mut stream, 10), frame(b"before"));
        let unacknowledged = || socket::probe(std::os::fd::AsFd::as_fd(&stream)).unacknowledged;
        while unacknowledged() > 0 {
            std::thread::yield_now();
        }
        let (summary, diary) = server.finish();
        assert_eq!((summary.drained, summary.cut), (1, 0), "{model:?}: {:?}", diary.reasons());
    }
}
