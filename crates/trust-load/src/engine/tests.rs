//! The engine against servers of known behaviour.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use rustix::net::SendFlags;
use trust_cli::framing::Framing;
use trust_net::Address;
use trust_net::stream::ClientStream;

mod measuring;
mod queueing;

use super::*;
use crate::schedule::Arrivals;
use crate::script::Script;
use crate::shape::{ConnectPlan, Length, Places};
use crate::sizes::Sizes;
use crate::summary::Phase;

const PATIENCE: Duration = Duration::from_secs(10);

/// Serves each connection with `serve`, in its own thread. `serve` gets the connection and its
/// number, from 1.
fn server(serve: impl Fn(TcpStream, u64) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in (1..).zip(listener.incoming()) {
            let (stream, serve) = (stream.expect("a connection"), serve.clone());
            thread::spawn(move || serve(stream, number));
        }
    });
    address
}

/// Sends back what comes, changed by `change`, which gets the bytes and how many came before them.
fn echo(mut stream: TcpStream, mut change: impl FnMut(&mut Vec<u8>, u64)) {
    let (mut buffer, mut before) = (vec![0; 65_536], 0);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut bytes = buffer[..count].to_vec();
        change(&mut bytes, before);
        before += count as u64;
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// Sends back one message of 64 bytes with its header.
fn echo_one(stream: &mut TcpStream) -> io::Result<()> {
    let mut frame = [0; 68];
    stream.read_exact(&mut frame)?;
    stream.write_all(&frame)
}

/// What is asked of a server that sends back what comes.
fn echoed() -> Shape {
    shape(server(|stream, _| echo(stream, |_, _| ())))
}

fn messages(clients: u64, each: u64) -> Length {
    Length::Messages { clients, each }
}

fn connecting(address: impl Into<Address>) -> ConnectPlan {
    let (gap, messages) = (Duration::ZERO, u64::MAX);
    ConnectPlan { addresses: vec![address.into()], preface: None, gap, messages }
}

fn shape(address: impl Into<Address>) -> Shape {
    let framing = Framing::parse("u32be").expect("a framing");
    Shape {
        connecting: connecting(address),
        script: Script::new(framing, Sizes::parse("64").expect("sizes"), 1),
        places: places(1),
        pace: Pace::Closed { think: Duration::ZERO },
        in_flight: 1,
        length: messages(1, 10),
        grace: PATIENCE,
        warm_up: Duration::ZERO,
        timeout: Some(PATIENCE),
        answer_timeout: None,
        seed: 1,
    }
}

fn places(count: u64) -> Places {
    Places { first: 0, step: 1, count, of_all: count }
}

fn open(rate: f64) -> Pace {
    Pace::Open { rate, arrivals: Arrivals::Constant }
}

fn framed(name: &str, sizes: &str) -> Script {
    let framing = Framing::parse(name).expect("a framing");
    Script::new(framing, Sizes::parse(sizes).expect("sizes"), 1)
}

/// Keeps how long intervals were, and how many answers they had.
#[derive(Default)]
struct Kept {
    intervals: Vec<(Duration, Duration, u64)>,
    phases: Vec<Phase>,
}

impl Kept {
    fn answered(&self) -> u64 {
        self.intervals.iter().map(|(.., answered)| answered).sum()
    }
}

impl Listener for Kept {
    fn live(&mut self, live: &Live) {
        self.phases.push(live.phase);
    }

    fn measuring(&mut self, _: Timestamp) {
        assert_eq!(self.intervals, []);
    }

    fn interval(&mut self, part: &Interval<'_>) -> ControlFlow<()> {
        self.intervals.push((part.start, part.length, part.answered));
        ControlFlow::Continue(())
    }
}

fn first(address: &Address) -> Connected {
    let stream = ClientStream::begin_connecting(address, |_| ()).expect("it is under way");
    Connected { stream, address: address.clone(), others: vec![], took: Duration::ZERO }
}

/// Does something with what is going on as well.
impl<F: FnMut(&Live)> Listener for (Kept, F) {
    fn live(&mut self, live: &Live) {
        self.1(live);
    }

    fn measuring(&mut self, began: Timestamp) {
        self.0.measuring(began);
    }

    fn interval(&mut self, part: &Interval<'_>) -> ControlFlow<()> {
        self.0.interval(part)
    }
}

fn run_with(shape: &Shape, listener: &mut dyn Listener) -> Summary {
    let ended = run(shape, first(&shape.connecting.addresses[0]), &Signals::never(), listener)
        .expect("descriptors");
    assert!(ended.signal.is_none() && !ended.is_cut);
    ended.summary
}

fn summary(shape: &Shape) -> Summary {
    run_with(shape, &mut Kept::default())
}

fn seen(summary: &Summary) -> Vec<(Cause, u64)> {
    summary.errors.seen().collect()
}

#[test]
fn every_message_of_every_client_comes_back_once() {
    for (clients, places_wanted, in_flight) in [(1, 1, 1), (7, 1, 1), (5, 5, 3), (20, 4, 10)] {
        let shape = Shape {
            places: places(places_wanted),
            in_flight,
            length: messages(clients, 50),
            script: framed("u32be", "0-3000"),
            ..echoed()
        };
        let summary = summary(&shape);
        assert_eq!(summary.counts.answered, 50 * clients);
        assert_eq!((summary.counts.sent, summary.counts.failed), (50 * clients, 0));
        assert_eq!(summary.counts.connections, clients);
        assert_eq!(summary.counts.connections_peak, places_wanted);
        assert_eq!(summary.counts.bytes_sent, summary.counts.bytes_received);
        assert_eq!(summary.latency.len(), 50 * clients);
        assert_eq!(seen(&summary), []);
    }
}

#[test]
fn any_framing_any_size_and_any_pieces_come_back_right() {
    for name in ["u8", "u16le+incl", "u64be", "raw", "line"] {
        let trickle = |stream: TcpStream, _| {
            let mut back = stream.try_clone().expect("a clone");
            echo(stream, move |bytes, _| {
                for piece in bytes.chunks(700) {
                    if back.write_all(piece).is_err() {
                        break;
                    }
                }
                bytes.clear();
            });
        };
        let shape = Shape {
            in_flight: 20,
            length: messages(1, 500),
            script: framed(name, "1,2,100,255"),
            ..shape(server(trickle))
        };
        let summary = summary(&shape);
        assert_eq!((summary.counts.answered, seen(&summary)), (500, vec![]), "{name}");
    }
}

#[test]
fn urgent_bytes_are_bytes_of_the_stream() {
    // The last byte of each echo is urgent: a receive stops before it, and no other event reports
    // it.
    let urgent = |mut stream: TcpStream, _| {
        let mut message = [0; 68];
        while stream.read_exact(&mut message).is_ok()
            && rustix::net::send(&stream, &message, SendFlags::OOB).is_ok()
        {}
    };
    let shape = Shape { length: messages(1, 200), ..shape(server(urgent)) };
    let summary = summary(&shape);
    assert_eq!((summary.counts.answered, seen(&summary)), (200, vec![]));
}

#[test]
fn a_payload_larger_than_all_buffers_comes_back() {
    let shape = Shape {
        in_flight: 4,
        length: messages(1, 8),
        script: framed("u32be", "3000000"),
        ..echoed()
    };
    let summary = summary(&shape);
    assert_eq!((summary.counts.answered, seen(&summary)), (8, vec![]));
}

#[test]
fn one_wrong_bit_in_a_million_bytes_is_told_with_its_place() {
    // The 1,000,000th byte that the server sees, from 0, is in message 14,706 of 68 bytes, from 1.
    const AT: u64 = 1_000_000;
    let flip = |bytes: &mut Vec<u8>, before| {
        if let Some(at) = AT.checked_sub(before).filter(|at| *at < bytes.len() as u64) {
            bytes[at as usize] ^= 0x10;
        }
    };
    let shape = Shape {
        in_flight: 16,
        length: messages(1, 20_000),
        ..shape(server(move |stream, _| echo(stream, flip)))
    };
    let summary = summary(&shape);
    assert_eq!(seen(&summary), [(Cause::Mismatch, 1)]);
    let [wrong] = summary.wrong[..] else { panic!("{:?}", summary.wrong) };
    assert_eq!((wrong.connection, wrong.message, wrong.offset), (1, AT / 68 + 1, AT % 68));
    assert_eq!(wrong.expected ^ wrong.got, 0x10);
    assert_eq!(summary.counts.answered, AT / 68);
    assert_eq!(summary.counts.answered + summary.counts.failed, 20_000);
}

/// How the first answer began that was no echo, as the result says it.
fn said_of(script: Script, answer: &'static [u8]) -> Option<String> {
    let address = server(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer);
        let _ = stream.read(&mut [0; 4096]);
    });
    let shape = Shape { script, length: messages(1, 1), ..shape(address) };
    let summary = summary(&shape);
    assert_eq!(summary.errors.count(Cause::Mismatch), 1, "{:?}", seen(&summary));
    summary.foreign.map(|opening| trust_cli::foreign::answer_began(&opening))
}

#[test]
fn an_answer_in_another_protocol_is_kept_and_named() {
    let http =
        Some("began with \"HTTP/1.1 400 Bad\\r\\n\", which looks like an HTTP response".into());
    for framing in ["u32be", "u16le", "line"] {
        assert_eq!(said_of(framed(framing, "64"), b"HTTP/1.1 400 Bad\r\n"), http, "{framing}");
    }
    let width = said_of(framed("u32be", "64"), b"\x05\0\0\0hello").expect("it is told");
    assert!(width.ends_with("little-endian length of 4 bytes (u32le)"), "{width}");
    // In lines any text may come.
    assert_eq!(said_of(framed("line", "64"), b"error 7\n"), None);
}

#[test]
fn each_end_that_comes_too_early_has_its_cause() {
    // What the server does with the first 68 bytes of a connection.
    type Serve = fn(TcpStream, u64);
    let cases: [(Serve, Cause); 6] = [
        (|mut stream, _| drop(stream.read(&mut [0; 68])), Cause::EofBetweenFrames),
        (
            |mut stream, _| {
                let mut frame = [0; 68];
                stream.read_exact(&mut frame).expect("a frame");
                stream.write_all(&frame[..10]).expect("sends");
            },
            Cause::EofInFrame,
        ),
        (
            // Bytes that were not read have the kernel send RST.
            |mut stream, _| drop(stream.read(&mut [0; 10])),
            Cause::ResetBeforeAnswer,
        ),
        (
            |mut stream, _| {
                echo_one(&mut stream).expect("a frame");
                stream.write_all(b"!").expect("sends");
                let _ = stream.read(&mut [0; 1]);
            },
            Cause::Surplus,
        ),
        (|stream, _| std::mem::forget(stream), Cause::Timeout),
        (
            |mut stream, _| {
                echo_one(&mut stream).expect("a frame");
                let socket = socket2::Socket::from(stream);
                socket.set_linger(Some(Duration::ZERO)).expect("lingers");
            },
            Cause::ResetAfterAnswer,
        ),
    ];
    for (serve, cause) in cases {
        let length = match cause {
            // Time for what follows the only answer.
            Cause::ResetAfterAnswer | Cause::Surplus => 2,
            _ => 1,
        };
        let shape = Shape {
            timeout: Some(Duration::from_millis(300)),
            grace: Duration::from_millis(300),
            length: messages(1, length),
            pace: Pace::Closed { think: Duration::from_millis(200) },
            ..shape(server(serve))
        };
        let summary = summary(&shape);
        assert_eq!(seen(&summary), [(cause, 1)], "{cause:?}");
        assert_eq!(summary.counts.answered + summary.counts.failed, length, "{cause:?}");
    }
}

#[test]
fn a_client_that_fails_takes_another_connection_while_there_is_time() {
    // Every connection ends after three frames, and not with RST, which would take answers with it.
    let serve = |mut stream: TcpStream, _| {
        for _ in 0..3 {
            if echo_one(&mut stream).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let _ = io::copy(&mut stream, &mut io::sink());
    };
    let shape = Shape { length: Length::Time(Duration::from_secs(2)), ..shape(server(serve)) };
    let summary = summary(&shape);
    let connections = summary.counts.connections;
    assert!((2..=21).contains(&connections), "{:?}", summary.counts);
    let answered = summary.counts.answered;
    assert!((3 * connections - 2..=3 * connections).contains(&answered), "{:?}", summary.counts);
    assert!(summary.errors.total() >= summary.counts.connections - 1);
}

#[test]
fn a_server_that_is_gone_fails_each_client_once_and_keeps_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let first = first(&address.into());
    let (gone, _) = listener.accept().expect("a client");
    drop((gone, listener));
    let shape = Shape { length: messages(1000, 10), ..shape(address) };
    let ended = run(&shape, first, &Signals::never(), &mut Kept::default()).expect("descriptors");
    let summary = ended.summary;
    assert_eq!((summary.counts.answered, summary.counts.failed), (0, 10_000));
    assert_eq!(summary.errors.count(Cause::Refused), 999, "{:?}", seen(&summary));
}

#[test]
fn churn_and_connection_rate_are_kept() {
    let begun = Instant::now();
    let mut shape = Shape { length: messages(1, 22), ..echoed() };
    shape.connecting.messages = 4;
    shape.connecting.gap = Duration::from_millis(50);
    let summary = summary(&shape);
    assert_eq!((summary.counts.answered, summary.counts.connections), (22, 6));
    assert_eq!(summary.connect.len(), 6);
    assert!(begun.elapsed() >= Duration::from_millis(5 * 50));
}

#[test]
fn a_client_that_thinks_sends_no_more_often_than_that() {
    const THINK: Duration = Duration::from_millis(20);
    let shape = Shape {
        pace: Pace::Closed { think: THINK },
        in_flight: 2,
        length: messages(1, 20),
        ..echoed()
    };
    let begun = Instant::now();
    assert_eq!(summary(&shape).counts.answered, 20);
    // Two at a time, and a pause before all but the first two.
    assert!(begun.elapsed() >= 9 * THINK, "{:?}", begun.elapsed());
}

#[test]
fn thinking_goes_on_while_a_connection_is_exchanged_for_another_one() {
    let mut shape = Shape {
        pace: Pace::Closed { think: Duration::from_millis(100) },
        length: messages(1, 5),
        ..echoed()
    };
    shape.connecting.messages = 1;
    let begun = Instant::now();
    let summary = summary(&shape);
    assert_eq!((summary.counts.answered, summary.counts.connections), (5, 5));
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}

#[test]
fn bytes_that_come_with_the_connection_are_seen() {
    let banner = |mut stream: TcpStream, _| {
        let _ = stream.write_all(b"hello");
        std::mem::forget(stream);
    };
    let shape = Shape { places: places(30), length: messages(30, 1), ..shape(server(banner)) };
    let summary = summary(&shape);
    let wrong = summary.errors.count(Cause::Surplus) + summary.errors.count(Cause::Mismatch);
    assert_eq!((wrong, summary.errors.total()), (30, 30), "{:?}", seen(&summary));
}

#[test]
fn shards_together_send_what_one_run_would() {
    static BYTES: AtomicU64 = AtomicU64::new(0);
    let address = server(|stream, _| {
        echo(stream, |bytes, _| {
            BYTES.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        });
    });
    let runs: Vec<_> = (0..3)
        .map(|index| {
            let shape = Shape {
                places: Places { first: index, step: 3, count: 2, of_all: 6 },
                pace: open(600.0),
                in_flight: 10,
                length: Length::Time(Duration::from_secs(1)),
                ..shape(address)
            };
            thread::spawn(move || summary(&shape))
        })
        .collect();
    for run in runs {
        let summary = run.join().expect("no panic");
        assert_eq!((summary.counts.answered, summary.rate), (200, Some(200.0)));
    }
    assert_eq!(BYTES.load(Ordering::Relaxed), 600 * 68);
}

#[test]
fn a_reset_in_place_of_the_last_fin_is_an_error_and_no_message_is_lost() {
    let serve = |stream: TcpStream, _| {
        let socket = socket2::Socket::from(stream.try_clone().expect("a descriptor"));
        socket.set_linger(Some(Duration::ZERO)).expect("lingers");
        // Ends at the client's FIN.
        echo(stream, |_, _| ());
    };
    let shape = Shape { places: places(3), length: messages(6, 10), ..shape(server(serve)) };
    let summary = summary(&shape);
    assert_eq!(seen(&summary), [(Cause::ResetAfterAnswer, 6)]);
    assert_eq!((summary.counts.answered, summary.counts.failed), (60, 0));
}
