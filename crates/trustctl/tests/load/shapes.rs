//! The shape of a load, as seen by the server: how many clients, when, with what.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::command::{RUN_DEADLINE, document, load, run};
use super::document::{Document, time};
use super::server::{Client, Seen, Server};
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_constant_rate_is_constant,
    poisson_arrivals_are_not,
    shards_together_send_what_one_run_sends,
    clients_come_as_many_at_a_time_as_asked,
    a_connection_has_as_many_messages_as_asked,
    connections_come_no_faster_than_asked,
    no_message_waits_for_the_end_of_the_connection_before,
    what_a_connection_rate_holds_back_is_told_as_the_client_s,
    a_rate_below_a_message_is_told_with_its_digits_and_rounded_up,
    a_client_that_thinks_pauses_after_each_answer,
    what_happens_in_the_warm_up_is_not_measured,
    no_more_messages_are_on_the_way_than_asked,
    a_seed_makes_the_same_bytes_again,
];

fn clients_come_as_many_at_a_time_as_asked() {
    for (clients, at_a_time) in [(9, 1), (9, 3), (4, 8)] {
        let server = Server::echo();
        let flags = format!("--clients {clients} --concurrency {at_a_time} --messages 20");
        let seen = document(&server, &flags, 0);
        seen.is_all_right(clients * 20);
        let peak = clients.min(at_a_time);
        assert_eq!(seen.facts["concurrency"], peak.to_string());
        assert_eq!((seen.connections.made, seen.connections.peak), (clients, peak), "{seen:?}");
        let connections = server.seen_at_last();
        assert_eq!(connections.len() as u64, clients);
        assert!(connections.iter().all(|seen| seen.frames.len() == 20));
        // The server sees a client leave later than the client does, but never sees more.
        assert!(server.peak() as u64 <= peak, "{}", server.peak());
        let sent: usize = connections.iter().map(|seen| seen.received.len()).sum();
        assert_eq!((seen.bytes.sent, seen.bytes.received), (sent as u64, sent as u64));
    }
}

fn a_connection_has_as_many_messages_as_asked() {
    let server = Server::echo();
    let flags =
        "--clients 2 --concurrency 1 --messages 10 --messages-per-connection 4 --in-flight 3";
    let seen = document(&server, flags, 0);
    seen.is_all_right(20);
    let frames: Vec<usize> = server.seen_at_last().iter().map(|seen| seen.frames.len()).collect();
    assert_eq!(frames, [4, 4, 2, 4, 4, 2]);
    assert_eq!((seen.connections.made, seen.connections.peak), (6, 1));

    let server = Server::echo();
    let seen = document(&server, "--rate 300 --duration 1 --messages-per-connection 7", 0);
    seen.is_all_right(300);
    let connections = server.seen_at_last();
    assert!(connections.iter().all(|seen| (1..=7).contains(&seen.frames.len())));
    assert_eq!(seen.connections.made, connections.len() as u64);
}

fn connections_come_no_faster_than_asked() {
    const GAP: Duration = Duration::from_millis(100);
    let server = Server::echo();
    let begun = Instant::now();
    let seen = document(&server, "--concurrency 10 --messages 2 --connect-rate 10", 0);
    seen.is_all_right(20);
    let connections = server.seen();
    assert_eq!(connections.len(), 10);
    for (at, connection) in (0..).zip(&connections) {
        let since = connection.accepted - begun;
        assert!(since >= GAP * at, "connection {at} came after {since:?}");
    }
    // A connected client does not wait for the others.
    let last = connections[9].accepted;
    assert!(connections[0].frames[1] < last, "the first one waited for the last one");
}

fn no_message_waits_for_the_end_of_the_connection_before() {
    /// How long the server takes to answer the client's FIN.
    const TARDY: Duration = Duration::from_millis(600);
    let server = Server::start(|client: &mut Client| {
        let ended = client.echo();
        thread::sleep(TARDY);
        ended
    });
    let flags = "--rate 50 --duration 2 --messages-per-connection 5";
    let seen = document(&server, flags, 0);
    seen.is_all_right(100);
    assert_eq!(seen.connections.made, 20, "{seen:?}");
    // At least the first of the next connection's messages would have waited.
    assert!(time(seen.latency.p99_ns) < TARDY * 2 / 3, "{seen:?}");
    assert_eq!(seen.client.put_off, 0, "{seen:?}");
    let frames: Vec<usize> = server.seen().iter().map(|seen| seen.frames.len()).collect();
    assert_eq!(frames, [5; 20]);

    // In a closed loop there are never more connections than clients, even as seen by the server.
    let seen = document(&server, "--messages 6 --messages-per-connection 2", 0);
    seen.is_all_right(6);
    assert_eq!((seen.connections.made, seen.connections.peak), (3, 1), "{seen:?}");
    assert!(seen.duration() >= TARDY * 2, "{seen:?}");
}

fn a_rate_below_a_message_is_told_with_its_digits_and_rounded_up() {
    let finished = run(&Server::echo(), "--rate 0.001 --duration 0.5").exits_with(0);
    let text = finished.text().split_whitespace().collect::<Vec<&str>>().join(" ");
    let told =
        "2 messages/s; 100 % of the 1 message that 0.001 messages/s make in 0.5 s, rounded up";
    assert!(text.contains(told), "{text}");
    assert!(text.contains("total rate 0.001 messages/s"), "{text}");
    // If rounding makes no difference, it is not mentioned.
    let finished = run(&Server::echo(), "--rate 200 --duration 0.5").exits_with(0);
    assert!(finished.text().contains("% of the 200 requested"), "{}", finished.text());
}

fn what_a_connection_rate_holds_back_is_told_as_the_client_s() {
    let server = Server::echo();
    let flags = "--rate 100 --duration 1 --messages-per-connection 2";
    // 50 connections per second are needed.
    let seen = document(&server, &format!("{flags} --connect-rate 10"), 0);
    // Messages due before the first connection are left out.
    seen.is_all_right(seen.messages.sent);
    assert!((80..=100).contains(&seen.client.put_off), "{seen:?}");
    let [limit] = &seen.client.limits[..] else { panic!("{seen:?}") };
    assert!(limit.contains("before --connect-rate let the client make a connection"), "{limit}");
    let seen = document(&server, flags, 0);
    seen.is_all_right(100);
    assert_eq!(seen.client.put_off, 0, "{seen:?}");
}

/// Times from one frame to the next, over all connections together.
fn gaps(connections: &[Seen]) -> Vec<Duration> {
    let mut times: Vec<Instant> =
        connections.iter().flat_map(|seen| seen.frames.iter().copied()).collect();
    times.sort();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Messages per second in the tests of arrivals: few, so that a busy machine does not blur the
/// times between them.
const RATE: u32 = 10;

/// The share of gaps that are close to that of a constant rate.
fn regular_share(connections: &[Seen], rate: u32) -> f64 {
    let gap = Duration::from_secs(1) / rate;
    let gaps = gaps(connections);
    let near = gaps.iter().filter(|other| other.abs_diff(gap) < gap * 2 / 5).count();
    near as f64 / gaps.len() as f64
}

fn a_constant_rate_is_constant() {
    let server = Server::echo();
    let begun = Instant::now();
    let flags = format!("--rate {RATE} --duration 3 --concurrency 4");
    let seen = document(&server, &flags, 0);
    seen.is_all_right(30);
    assert_eq!(seen.rate.requested_per_second, Some(10.0));
    // The last one was due a tenth of a second before the end.
    assert!(seen.messages.answered_in_time >= 28, "{seen:?}");
    assert!((9.3..=10.0).contains(&seen.rate.achieved_per_second), "{seen:?}");
    let connections = server.seen_at_last();
    assert_eq!(connections.len(), 4);
    let mut frames: Vec<Instant> =
        connections.iter().flat_map(|seen| seen.frames.clone()).collect();
    frames.sort();
    for (at, frame) in (0..).zip(&frames) {
        let due = Duration::from_secs(1) / RATE * at;
        assert!(*frame - begun >= due, "message {at} came before it was due");
    }
    let share = regular_share(&connections, RATE);
    // A third would be chance. A busy machine has been seen to leave seven in ten.
    assert!(share > 0.5, "{share} of the gaps are near a tenth of a second");
}

fn poisson_arrivals_are_not() {
    let server = Server::echo();
    let flags = format!("--rate {RATE} --duration 3 --concurrency 4 --arrivals poisson --seed 1");
    let seen = document(&server, &flags, 0);
    // Five standard deviations; there is no randomness from run to run, as the seed decides.
    assert!((3..=57).contains(&seen.messages.sent), "{seen:?}");
    seen.is_all_right(seen.messages.sent);
    // A third, for exponentially distributed times.
    let share = regular_share(&server.seen_at_last(), RATE);
    assert!(share < 0.6, "{share} of the gaps are near a tenth of a second");
}

fn a_client_that_thinks_pauses_after_each_answer() {
    const THINK: Duration = Duration::from_millis(200);
    let server = Server::start(|client: &mut Client| {
        let mut answered: Option<Instant> = None;
        loop {
            let frame = client.frame()?;
            // The client's pause began later than this.
            if answered.is_some_and(|answered| answered.elapsed() < THINK) {
                return Err(io::Error::other("it did not think"));
            }
            answered = Some(Instant::now());
            client.send(&frame)?;
        }
    });
    let seen = document(&server, "--concurrency 2 --messages 4 --think 0.2", 0);
    seen.is_all_right(8);
    assert!(seen.duration() >= THINK * 3, "{seen:?}");
    assert!(time(seen.latency.p50_ns) < THINK * 4 / 5, "thinking is no latency: {seen:?}");
}

fn what_happens_in_the_warm_up_is_not_measured() {
    const SLOW: Duration = Duration::from_millis(900);
    // Only the first message is slow.
    let serve = |client: &mut Client| {
        let frame = client.frame()?;
        thread::sleep(SLOW);
        client.send(&frame)?;
        client.echo()
    };
    let server = Server::start(serve);
    let seen = document(&server, "--rate 100 --warm-up 1.5 --duration 1", 0);
    seen.is_all_right(100);
    // On a busy machine the last ones come back a moment later.
    assert!((100..=150).contains(&seen.messages.warm_up), "{seen:?}");
    assert!(seen.messages.warm_up + seen.messages.answered_in_time <= 250, "{seen:?}");
    assert!(time(seen.latency.max_ns) < SLOW, "{seen:?}");
    let connections = server.seen_at_last();
    assert_eq!(connections[0].frames.len(), 250);
    assert_eq!(seen.bytes.received, 250 * 68);
    // Bytes count when they arrive: some may have been sent in the warm-up.
    let least = seen.messages.answered_in_time * 68;
    assert!((least..=250 * 68).contains(&seen.bytes.received_in_time), "{seen:?}");
    let seen = document(&Server::start(serve), "--rate 100 --duration 1", 0);
    assert!(time(seen.latency.max_ns) >= SLOW, "without a warm-up it is seen: {seen:?}");

    // Nothing is left for the measured part, and the result says why.
    let finished = run(&Server::echo(), "--messages 10 --warm-up 1").exits_with(1);
    let words: Vec<&str> = finished.text().split_whitespace().collect();
    let reason = "No message was measured, which says nothing about the server: 10 messages came \
                  back, but during the warm-up.";
    assert!(words.join(" ").contains(reason), "{}", finished.text());

    // A wrong byte is an error at any time.
    let wrong = Server::start(|client: &mut Client| {
        let mut frame = client.frame()?;
        if client.number == 1 {
            frame[9] ^= 1;
        }
        client.send(&frame)?;
        client.echo()
    });
    let seen = document(&wrong, "--think 0.01 --warm-up 0.5 --duration 0.5", 1);
    assert_eq!((seen.causes(), seen.wrong.len()), (vec![("mismatch", 1)], 1), "{seen:?}");
}

fn no_more_messages_are_on_the_way_than_asked() {
    const IN_FLIGHT: usize = 7;
    /// How long to wait for one more to come.
    const LOOK: Duration = Duration::from_millis(150);
    // Answers only when nothing more comes: that is how many frames are in flight.
    let (tell, told) = std::sync::mpsc::channel();
    let holding = move |client: &mut Client| {
        let patience = client.stream.read_timeout()?;
        for _ in 0..3 {
            let mut held = vec![];
            for _ in 0..IN_FLIGHT {
                held.push(client.frame()?);
            }
            client.stream.set_read_timeout(Some(LOOK))?;
            let more = client.stream.peek(&mut [0]);
            tell.send(matches!(more, Ok(1..))).map_err(io::Error::other)?;
            client.stream.set_read_timeout(patience)?;
            client.send(&held.concat())?;
        }
        client.echo()
    };
    let server = Server::start(holding);
    for flags in ["--messages 40", "--messages 40 --rate 10000"] {
        let flags = format!("{flags} --in-flight {IN_FLIGHT} --concurrency 2");
        document(&server, &flags, 0).is_all_right(80);
        let looks: Vec<bool> = told.try_iter().collect();
        assert_eq!(looks, [false; 6], "there was one more: {flags}");
    }
}

fn shards_together_send_what_one_run_sends() {
    let shape = "--concurrency 5 --messages 8 --seed 3 --size 1-99";
    let whole = Server::echo();
    document(&whole, shape, 0).is_all_right(40);
    let parts = Server::echo();
    let zero = document(&parts, &format!("{shape} --shard 0/2"), 0);
    let home = Home::new();
    let one = load(&home, &parts, &format!("{shape} --json --shard /2"));
    let one = Document::read(&one.env("JOB_COMPLETION_INDEX", "1").run().exits_with(0));
    zero.is_all_right(24);
    one.is_all_right(16);
    assert_eq!((zero.facts["shard"].as_str(), one.facts["shard"].as_str()), ("0/2", "1/2"));
    // The index came from the environment, which may be missing when the command is repeated.
    assert!(one.again.contains(" --shard 1/2 "), "{}", one.again);
    let frames = |server: &Server| -> Vec<usize> {
        server.seen_at_last().iter().map(|seen| seen.frames.len()).collect()
    };
    assert_eq!((frames(&whole), frames(&parts)), (vec![8; 5], vec![8; 5]));

    // Few per second: a busy machine starts one process later than the other.
    const TOGETHER: u32 = 2;
    // Two halves of a rate, at the same time: each message falls between those of the other half.
    let server = Server::echo();
    let homes = [Home::new(), Home::new()];
    let start = jiff::Timestamp::now() + Duration::from_secs(1);
    let runs = [0, 1].map(|shard| {
        let flags = format!(
            "--rate {TOGETHER} --duration 4 --concurrency 4 --shard {shard}/2 --start-at {start} \
             --json"
        );
        load(&homes[shard], &server, &flags).start()
    });
    for run in runs {
        let seen = Document::read(&run.wait_for(RUN_DEADLINE).exits_with(0));
        seen.is_all_right(4);
        assert_eq!(seen.rate.requested_per_second, Some(1.0));
        assert_eq!(seen.connections.made, 2);
    }
    let share = regular_share(&server.seen_at_last(), TOGETHER);
    assert!(share > 0.7, "{share} of the gaps are near half a second");
}

fn a_seed_makes_the_same_bytes_again() {
    let streams = |seed: &str, flags: &str| {
        let server = Server::echo();
        let flags = format!("--concurrency 3 --messages 20 --size 0-200 {flags} {seed}");
        document(&server, &flags, 0).is_all_right(60);
        let mut streams: Vec<Vec<u8>> =
            server.seen_at_last().into_iter().map(|seen| seen.received).collect();
        streams.sort();
        streams
    };
    let first = streams("--seed 42", "");
    assert_eq!(first.len(), 3);
    assert!(first[0] != first[1] && first[1] != first[2], "connections have bytes of their own");
    assert!(first == streams("--seed 42", "--in-flight 9"), "the shape does not matter");
    assert!(first != streams("--seed 43", ""), "another seed");
    assert!(streams("", "") != streams("", ""), "without a seed");
}
