//! The engine against servers of known behaviour.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use rustix::net::SendFlags;
use trust_cli::framing::Framing;

use super::*;
use crate::schedule::Arrivals;
use crate::script::Script;
use crate::shape::{Length, Places};
use crate::sizes::Sizes;
use crate::summary::Phase;

const PATIENCE: Duration = Duration::from_secs(10);

/// Serves each connection in a thread of its own with `serve`, which gets the connection and its number, from 1.
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

fn shape(address: SocketAddr) -> Shape {
    let framing = Framing::parse("u32be").expect("a framing");
    Shape {
        address,
        script: Script::new(framing, Sizes::parse("64").expect("sizes"), 1),
        places: places(1),
        pace: Pace::Closed { think: Duration::ZERO },
        in_flight: 1,
        length: Length::Messages { clients: 1, each: 10 },
        warm_up: Duration::ZERO,
        connect_gap: Duration::ZERO,
        messages_per_connection: u64::MAX,
        timeout: Some(PATIENCE),
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

fn first(address: SocketAddr) -> First {
    let stream = ClientStream::begin_connecting(address, |_| ()).expect("it is under way");
    First { stream, took: Duration::ZERO }
}

fn run_with(shape: &Shape, kept: &mut Kept) -> Summary {
    let ended = run(shape, first(shape.address), &Signals::never(), kept).expect("descriptors");
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
            length: Length::Messages { clients, each: 50 },
            script: framed("u32be", "0-3000"),
            ..shape(server(|stream, _| echo(stream, |_, _| ())))
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
            length: Length::Messages { clients: 1, each: 500 },
            script: framed(name, "1,2,100,255"),
            ..shape(server(trickle))
        };
        let summary = summary(&shape);
        assert_eq!((summary.counts.answered, seen(&summary)), (500, vec![]), "{name}");
    }
}

#[test]
fn urgent_bytes_are_bytes_of_the_stream() {
    // The last byte of each echo is urgent: a receive stops in front of it, and no other event tells of it.
    let urgent = |mut stream: TcpStream, _| {
        let mut message = [0; 68];
        while stream.read_exact(&mut message).is_ok()
            && rustix::net::send(&stream, &message, SendFlags::OOB).is_ok()
        {}
    };
    let shape =
        Shape { length: Length::Messages { clients: 1, each: 200 }, ..shape(server(urgent)) };
    let summary = summary(&shape);
    assert_eq!((summary.counts.answered, seen(&summary)), (200, vec![]));
}

#[test]
fn a_payload_larger_than_all_buffers_comes_back() {
    let shape = Shape {
        in_flight: 4,
        length: Length::Messages { clients: 1, each: 8 },
        script: framed("u32be", "3000000"),
        ..shape(server(|stream, _| echo(stream, |_, _| ())))
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
        length: Length::Messages { clients: 1, each: 20_000 },
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
                let mut frame = [0; 68];
                stream.read_exact(&mut frame).expect("a frame");
                stream.write_all(&frame).expect("sends");
                stream.write_all(b"!").expect("sends");
                let _ = stream.read(&mut [0; 1]);
            },
            Cause::Surplus,
        ),
        (|stream, _| std::mem::forget(stream), Cause::Timeout),
        (
            |mut stream, _| {
                let mut frame = [0; 68];
                stream.read_exact(&mut frame).expect("a frame");
                stream.write_all(&frame).expect("sends");
                let socket = socket2::Socket::from(stream);
                socket.set_linger(Some(Duration::ZERO)).expect("lingers");
            },
            Cause::ResetAfterAnswer,
        ),
    ];
    for (serve, cause) in cases {
        let length = match cause {
            // Time for what comes behind the only answer.
            Cause::ResetAfterAnswer | Cause::Surplus => 2,
            _ => 1,
        };
        let shape = Shape {
            timeout: Some(Duration::from_millis(300)),
            length: Length::Messages { clients: 1, each: length },
            pace: Pace::Closed { think: Duration::from_millis(200) },
            ..shape(server(serve))
        };
        let summary = summary(&shape);
        assert_eq!(seen(&summary), [(cause, 1)], "{cause:?}");
        assert_eq!(summary.counts.answered + summary.counts.failed, length, "{cause:?}");
    }
}

#[test]
fn a_stall_is_seen_in_an_open_loop_and_hidden_by_a_closed_one() {
    const STALL: Duration = Duration::from_secs(1);
    // The server does nothing for a second, once.
    let stalling = || {
        let begun = std::sync::OnceLock::new();
        move |stream: TcpStream, _| {
            let begun: Instant = *begun.get_or_init(Instant::now);
            let mut is_over = false;
            echo(stream, move |_, _| {
                if !is_over && begun.elapsed() >= STALL / 2 {
                    is_over = true;
                    thread::sleep(STALL);
                }
            });
        }
    };
    let length = Length::Time(Duration::from_secs(4));
    let base = shape(server(stalling()));
    let open = summary(&Shape { pace: open(500.0), in_flight: 1, length, ..base.clone() });
    // A quarter of all messages were due in the stall: on average they waited for half of it.
    assert_eq!(open.counts.answered, 2000);
    let p99 = Duration::from_nanos(open.latency.value_at_quantile(0.99));
    assert!(p99 >= STALL * 9 / 10, "{p99:?}");
    let waited = open.latency.len() - open.latency.count_between(0, 100_000_000);
    assert!(waited >= 400, "{waited} waited longer than 0.1 s");
    assert!(Duration::from_nanos(open.service.value_at_quantile(0.99)) < STALL / 2);

    let closed = summary(&Shape { length, ..shape(server(stalling())) });
    assert!(Duration::from_nanos(closed.latency.value_at_quantile(0.99)) < STALL / 2);
    assert!(Duration::from_nanos(closed.latency.max()) > STALL * 9 / 10);
}

#[test]
fn an_open_loop_sends_as_many_as_are_due_whatever_the_number_of_places() {
    for (count, arrivals) in
        [(1, Arrivals::Constant), (8, Arrivals::Constant), (8, Arrivals::Poisson)]
    {
        let shape = Shape {
            places: places(count),
            pace: Pace::Open { rate: 1000.0, arrivals },
            in_flight: 100,
            warm_up: Duration::from_millis(500),
            length: Length::Time(Duration::from_secs(2)),
            ..shape(server(|stream, _| echo(stream, |_, _| ())))
        };
        let mut kept = Kept::default();
        let summary = run_with(&shape, &mut kept);
        let due = summary.counts.sent;
        match arrivals {
            Arrivals::Constant => assert_eq!(due, 2000),
            Arrivals::Poisson => assert!((1700..2300).contains(&due), "{due}"),
        }
        assert_eq!((summary.counts.answered, summary.counts.unsent), (due, 0));
        assert_eq!(summary.latency.len(), due);
        assert_eq!(summary.took, Duration::from_secs(2));
        let answered: u64 = kept.intervals.iter().map(|(_, _, answered)| answered).sum();
        // What was on the way when the warm-up ended; a busy machine answers it after the end.
        let left = summary.counts.answered_in_time - summary.counts.kept_up;
        assert!(answered >= due + left, "{answered} of {due} and {left}");
        let all = summary.counts.warm_up + answered;
        assert!(all == 2500 || arrivals == Arrivals::Poisson, "{all}");
        assert!(kept.phases.contains(&Phase::Measuring));
    }
}

#[test]
fn what_was_due_and_never_answered_is_in_the_percentiles() {
    // Answers nothing after its first frame.
    let serve = |mut stream: TcpStream, _| {
        let mut frame = [0; 68];
        stream.read_exact(&mut frame).expect("a frame");
        stream.write_all(&frame).expect("sends");
        std::mem::forget(stream);
    };
    let limit = Duration::from_millis(500);
    let shape = Shape {
        pace: open(100.0),
        timeout: Some(limit),
        length: Length::Time(Duration::from_millis(400)),
        ..shape(server(serve))
    };
    let summary = summary(&shape);
    let counts = summary.counts;
    assert_eq!(counts.answered + counts.failed + counts.unsent, 40, "{counts:?}");
    assert!(summary.latency.len() > 20, "{}", summary.latency.len());
    assert!(summary.latency.value_at_quantile(0.5) >= limit.as_nanos() as u64);
    assert!(summary.errors.count(Cause::Timeout) > 0);
}

#[test]
fn a_client_that_fails_takes_another_connection_while_there_is_time() {
    // Every connection ends after three frames, and not with RST, which would take answers with it.
    let serve = |mut stream: TcpStream, _| {
        let mut frame = [0; 68];
        for _ in 0..3 {
            if stream.read_exact(&mut frame).and_then(|()| stream.write_all(&frame)).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let _ = io::copy(&mut stream, &mut io::sink());
    };
    let shape = Shape { length: Length::Time(Duration::from_millis(650)), ..shape(server(serve)) };
    let summary = summary(&shape);
    let connections = summary.counts.connections;
    assert!((2..=7).contains(&connections), "{:?}", summary.counts);
    let answered = summary.counts.answered;
    assert!((3 * connections - 2..=3 * connections).contains(&answered), "{:?}", summary.counts);
    assert!(summary.errors.total() >= summary.counts.connections - 1);
}

#[test]
fn a_server_that_is_gone_fails_each_client_once_and_keeps_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let first = first(address);
    let (gone, _) = listener.accept().expect("a client");
    drop((gone, listener));
    let shape = Shape { length: Length::Messages { clients: 1000, each: 10 }, ..shape(address) };
    let ended = run(&shape, first, &Signals::never(), &mut Kept::default()).expect("descriptors");
    let summary = ended.summary;
    assert_eq!((summary.counts.answered, summary.counts.failed), (0, 10_000));
    assert_eq!(summary.errors.count(Cause::Refused), 999, "{:?}", seen(&summary));
}

#[test]
fn churn_and_connection_rate_are_kept() {
    let begun = Instant::now();
    let shape = Shape {
        messages_per_connection: 4,
        connect_gap: Duration::from_millis(50),
        length: Length::Messages { clients: 1, each: 22 },
        ..shape(server(|stream, _| echo(stream, |_, _| ())))
    };
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
        length: Length::Messages { clients: 1, each: 20 },
        ..shape(server(|stream, _| echo(stream, |_, _| ())))
    };
    let begun = Instant::now();
    assert_eq!(summary(&shape).counts.answered, 20);
    // Two at a time, and a pause before all but the first two.
    assert!(begun.elapsed() >= 9 * THINK, "{:?}", begun.elapsed());
}

#[test]
fn thinking_goes_on_while_a_connection_is_exchanged_for_another_one() {
    let shape = Shape {
        pace: Pace::Closed { think: Duration::from_millis(100) },
        messages_per_connection: 1,
        length: Length::Messages { clients: 1, each: 5 },
        ..shape(server(|stream, _| echo(stream, |_, _| ())))
    };
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
    let shape = Shape {
        places: places(30),
        length: Length::Messages { clients: 30, each: 1 },
        ..shape(server(banner))
    };
    let summary = summary(&shape);
    let wrong = summary.errors.count(Cause::Surplus) + summary.errors.count(Cause::Mismatch);
    assert_eq!((wrong, summary.errors.total()), (30, 30), "{:?}", seen(&summary));
}

#[test]
fn clients_that_did_not_come_owe_nothing() {
    let shape = Shape {
        places: places(10),
        pace: open(100.0),
        connect_gap: Duration::from_millis(400),
        length: Length::Time(Duration::from_secs(1)),
        ..shape(server(|stream, _| echo(stream, |_, _| ())))
    };
    let summary = summary(&shape);
    assert!((1..=4).contains(&summary.counts.connections), "{:?}", summary.counts);
    assert_eq!((summary.counts.unsent, summary.counts.failed), (0, 0));
    assert_eq!(summary.latency.len(), summary.counts.answered);
}

#[test]
fn what_waits_behind_a_message_that_timed_out_is_in_the_percentiles_too() {
    // Answers for a while, and then nothing.
    let begun = std::sync::OnceLock::new();
    let serve = move |mut stream: TcpStream, _| {
        let begun: Instant = *begun.get_or_init(Instant::now);
        let mut frame = [0; 68];
        while begun.elapsed() < Duration::from_millis(500) {
            if stream.read_exact(&mut frame).and_then(|()| stream.write_all(&frame)).is_err() {
                return;
            }
        }
        std::mem::forget(stream);
    };
    let shape = Shape {
        pace: open(200.0),
        in_flight: 1000,
        timeout: Some(Duration::from_millis(600)),
        length: Length::Time(Duration::from_secs(1)),
        ..shape(server(serve))
    };
    let summary = summary(&shape);
    let counts = summary.counts;
    assert_eq!(counts.answered + counts.failed + counts.unsent, 200, "{counts:?}");
    assert!(counts.answered < 150, "{counts:?}");
    // Each of them had waited longer than those that were answered.
    assert_eq!(summary.latency.len(), 200);
    // What was never sent has no service time.
    assert_eq!(summary.service.len(), 200 - counts.unsent);
}

#[test]
fn a_flood_that_nobody_answers_is_counted_at_once() {
    let serve = |stream: TcpStream, _| std::mem::forget(stream);
    let shape = Shape {
        places: places(2),
        pace: open(1e7),
        in_flight: 1,
        timeout: Some(Duration::from_millis(200)),
        length: Length::Time(Duration::from_secs(1)),
        ..shape(server(serve))
    };
    let begun = Instant::now();
    let summary = summary(&shape);
    let counts = summary.counts;
    assert_eq!(counts.answered + counts.failed + counts.unsent, 10_000_000, "{counts:?}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let longest = Duration::from_nanos(summary.latency.max());
    // A histogram rounds up, by a thousandth at most.
    assert!(longest <= begun.elapsed() * 1001 / 1000, "{longest:?}");
    assert!(summary.latency.len() > 9_000_000);
}

#[test]
fn the_run_lasts_until_the_last_message_failed() {
    let once = |mut stream: TcpStream, _| {
        let mut frame = [0; 68];
        let _ = stream.read_exact(&mut frame).and_then(|()| stream.write_all(&frame));
        std::mem::forget(stream);
    };
    let limit = Duration::from_millis(500);
    let shape = Shape { timeout: Some(limit), ..shape(server(once)) };
    let summary = summary(&shape);
    assert_eq!((summary.counts.answered, summary.counts.failed), (1, 9));
    assert!(summary.took >= limit, "{:?}", summary.took);
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
    let shape = Shape {
        places: places(3),
        length: Length::Messages { clients: 6, each: 10 },
        ..shape(server(serve))
    };
    let summary = summary(&shape);
    assert_eq!(seen(&summary), [(Cause::ResetAfterAnswer, 6)]);
    assert_eq!((summary.counts.answered, summary.counts.failed), (60, 0));
}

#[test]
fn what_comes_back_while_measuring_counts_for_the_rate_also_if_the_warm_up_sent_it() {
    struct Tells(std::sync::mpsc::Sender<()>, u64);

    impl Listener for Tells {
        fn live(&mut self, _: &Live) {}

        fn measuring(&mut self, _: Timestamp) {
            self.0.send(()).expect("the server waits");
        }

        fn interval(&mut self, part: &Interval<'_>) -> ControlFlow<()> {
            self.1 += part.answered;
            ControlFlow::Continue(())
        }
    }

    let (measuring, told) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    // Keeps the first ten messages until the warm-up is over.
    let serve = move |mut stream: TcpStream, _| {
        let mut frames = [0; 10 * 68];
        stream.read_exact(&mut frames).expect("ten messages");
        told.lock().expect("one connection").recv_timeout(PATIENCE).expect("it measures");
        stream.write_all(&frames).expect("the client is there");
        echo(stream, |_, _| ());
    };
    let shape = Shape {
        in_flight: 10,
        warm_up: Duration::from_millis(300),
        length: Length::Messages { clients: 1, each: 30 },
        ..shape(server(serve))
    };
    let mut tells = Tells(measuring, 0);
    let ended =
        run(&shape, first(shape.address), &Signals::never(), &mut tells).expect("descriptors");
    let counts = ended.summary.counts;
    assert_eq!((counts.sent, counts.answered, counts.warm_up), (20, 20, 0), "{counts:?}");
    assert_eq!((counts.answered_in_time, tells.1), (30, 30), "{counts:?}");
    assert_eq!(ended.summary.latency.len(), 20);
}

#[test]
fn the_warm_up_ends_on_time_also_in_a_turn_that_takes_long() {
    const WARM_UP: Duration = Duration::from_secs(1);

    /// Holds the engine up once, from the warm-up into the measured part.
    struct Holds(Option<u64>);

    impl Listener for Holds {
        fn live(&mut self, live: &Live) {
            if self.0.is_none() && live.phase == Phase::WarmUp {
                self.0 = Some(live.answered);
                thread::sleep(WARM_UP);
            }
        }

        fn measuring(&mut self, _: Timestamp) {}

        fn interval(&mut self, _: &Interval<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }

    let shape = Shape {
        places: places(20),
        warm_up: WARM_UP,
        length: Length::Time(WARM_UP),
        ..shape(server(|stream, _| echo(stream, |_, _| ())))
    };
    let mut holds = Holds(None);
    let ended =
        run(&shape, first(shape.address), &Signals::never(), &mut holds).expect("descriptors");
    let counts = ended.summary.counts;
    assert_eq!(Some(counts.warm_up), holds.0, "{counts:?}");
    assert!(counts.answered > 0 && counts.kept_up <= counts.answered_in_time, "{counts:?}");
}

#[test]
fn seconds_in_which_this_process_did_not_run_are_intervals_as_well() {
    /// Holds the engine up once while it measures.
    struct Holds(Kept, bool);

    impl Listener for Holds {
        fn live(&mut self, live: &Live) {
            if !self.1
                && live.phase == Phase::Measuring
                && live.elapsed >= Duration::from_millis(400)
            {
                self.1 = true;
                thread::sleep(Duration::from_millis(2_200));
            }
        }

        fn measuring(&mut self, began: Timestamp) {
            self.0.measuring(began);
        }

        fn interval(&mut self, part: &Interval<'_>) -> ControlFlow<()> {
            self.0.interval(part)
        }
    }

    let shape = Shape {
        length: Length::Time(Duration::from_millis(3_500)),
        ..shape(server(|stream, _| echo(stream, |_, _| ())))
    };
    let mut holds = Holds(Kept::default(), false);
    let ended =
        run(&shape, first(shape.address), &Signals::never(), &mut holds).expect("descriptors");
    let intervals = holds.0.intervals;
    let starts: Vec<u128> = intervals.iter().map(|(start, ..)| start.as_millis()).collect();
    assert_eq!(starts, [0, 1000, 2000, 3000], "{intervals:?}");
    for (_, length, _) in &intervals[..3] {
        assert_eq!(*length, INTERVAL, "{intervals:?}");
    }
    assert!(intervals[3].1 >= INTERVAL / 2, "{intervals:?}");
    // In one whole second it did not run.
    assert_eq!(intervals[1].2, 0, "{intervals:?}");
    let answered: u64 = intervals.iter().map(|(.., answered)| answered).sum();
    assert_eq!(answered, ended.summary.counts.answered);
}

#[test]
fn a_run_that_is_counted_ends_its_last_interval_with_the_last_answer() {
    // It answers the client's FIN late.
    let serve = |stream: TcpStream, _| {
        let kept = stream.try_clone().expect("a descriptor");
        echo(stream, |_, _| ());
        thread::sleep(FAREWELL_MAX / 2);
        drop(kept);
    };
    let shape = Shape {
        pace: open(10.0),
        length: Length::Messages { clients: 1, each: 8 },
        ..shape(server(serve))
    };
    let mut kept = Kept::default();
    let summary = run_with(&shape, &mut kept);
    let [(start, length, answered)] = kept.intervals[..] else { panic!("{:?}", kept.intervals) };
    assert_eq!((start, length, answered), (Duration::ZERO, summary.took, 8));
}

#[test]
fn what_was_due_and_not_sent_is_counted_to_the_message_from_the_end_of_the_warm_up_on() {
    let serve = |stream: TcpStream, _| std::mem::forget(stream);
    let shape = Shape {
        places: places(2),
        pace: open(3000.0),
        in_flight: 1,
        timeout: Some(Duration::from_millis(900)),
        warm_up: Duration::from_millis(77),
        length: Length::Time(Duration::from_millis(450)),
        ..shape(server(serve))
    };
    let counts = summary(&shape).counts;
    // Due from 231/3000 s to before 1581/3000 s; none is sent before the end but the first two, in the warm-up.
    assert_eq!((counts.sent, counts.unsent), (0, 1350), "{counts:?}");
}
