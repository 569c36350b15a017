//! When, how fast and in which pieces bytes are passed on.

use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::peer::{Peer, frame, pattern};

use crate::proxy::{Proxy, Through, accept, upstream};

fn through(rules: &[&str], flags: &[&str]) -> Through {
    let rules = rules.iter().flat_map(|rule| ["--fault", rule]);
    Through::start(&flags.iter().copied().chain(rules).collect::<Vec<_>>())
}

/// Has both sides end, and then the proxy.
#[track_caller]
fn end(through: Through) {
    let Through { proxy, mut client, mut server } = through;
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
    proxy.stop();
}

#[test]
fn a_delay_is_never_shorter_and_holds_for_fin_too() {
    let Through { proxy, mut client, mut server } = through(&["delay 80ms up"], &[]);
    let began = Instant::now();
    client.send(b"question");
    server.receives(b"question");
    assert!(began.elapsed() >= Duration::from_millis(80));
    // The other direction has none.
    server.send(b"answer");
    client.receives(b"answer");
    let began = Instant::now();
    client.half_close();
    server.receives_end();
    assert!(began.elapsed() >= Duration::from_millis(80));
    server.half_close();
    client.receives_end();
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn delayed_bytes_are_all_there_in_their_order() {
    let Through { proxy, mut client, mut server } = through(&["delay 30ms ±20ms down"], &[]);
    let answer = pattern(3_000_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            server.send(&answer);
            server.half_close();
        });
        client.receives_to_end(&answer);
    });
    client.half_close();
    server.receives_end();
    proxy.stop();
}

#[test]
fn what_may_be_held_is_a_limit_and_reaching_it_is_an_event() {
    let flags = ["--hold", "100k"];
    let Through { proxy, mut client, mut server } = through(&["delay 200ms down"], &flags);
    let answer = pattern(1_000_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            server.send(&answer);
            server.half_close();
        });
        client.receives_to_end(&answer);
    });
    let full = proxy.event_about(client.address(), "hold_full");
    assert_eq!((full.text("direction"), full.count("bytes")), ("down", 100_000));
    client.half_close();
    server.receives_end();
    proxy.stop();
}

#[test]
fn a_rate_is_kept_to() {
    let Through { proxy, mut client, mut server } = through(&["rate 100kB/s down"], &[]);
    let answer = pattern(30_000);
    let began = Instant::now();
    server.send(&answer);
    client.receives(&answer);
    // But for one quantum, of a millisecond.
    assert!(began.elapsed() >= Duration::from_millis(299));
    end(Through { proxy, client, server });
}

/// Has so many clients share a rate, each of whom gets so much; checks that they share it fairly,
/// and never get more together.
#[track_caller]
fn share(clients: usize, rate: u64, len: usize) {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let rule = format!("rate {rate}B/s shared down");
    let proxy = Proxy::start(address, &["--fault", &rule]);
    let pairs = (0..clients).map(|_| (proxy.client(), accept(&listener)));
    let (mut clients, mut servers): (Vec<Peer>, Vec<Peer>) = pairs.unzip();
    let answer = pattern(len);
    let mut received = vec![vec![]; clients.len()];
    let began = Instant::now();
    thread::scope(|scope| {
        for server in &mut servers {
            scope.spawn(|| server.send(&answer));
        }
        let mut is_even = true;
        while received.iter().any(|received| received.len() < len) {
            for (client, received) in clients.iter().zip(&mut received) {
                receive_what_came(client, received);
            }
            // But for one quantum, of a millisecond.
            let together: usize = received.iter().map(Vec::len).sum();
            let most = began.elapsed().as_secs_f64() * rate as f64 + rate as f64 / 1000.0;
            assert!(together as f64 <= most, "{together} bytes in {:?}", began.elapsed());
            if is_even && received.iter().any(|received| received.len() == len) {
                is_even = false;
                let least = received.iter().map(Vec::len).min().expect("one of them");
                assert!(least * 4 >= len * 3, "{least} when another one has all {len}");
            }
            assert!(began.elapsed() < STEP_DEADLINE, "{together} bytes");
            await_any(&clients);
        }
    });
    assert!(received.iter().all(|received| *received == answer));
    for (client, server) in clients.iter_mut().zip(&mut servers) {
        client.half_close();
        server.receives_end();
        server.half_close();
        client.receives_end();
    }
    proxy.stop();
}

/// Appends what has come for a client.
fn receive_what_came(client: &Peer, received: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    match rustix::net::recv(client.stream(), &mut buffer, RecvFlags::DONTWAIT) {
        Ok((count, _)) => received.extend_from_slice(&buffer[..count]),
        Err(error) => assert_eq!(error, Errno::AGAIN),
    }
}

/// Waits for a moment, or until something comes for one of them.
fn await_any(clients: &[Peer]) {
    let mut polled: Vec<PollFd<'_>> =
        clients.iter().map(|client| PollFd::new(client.stream(), PollFlags::IN)).collect();
    let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    // A signal only makes it shorter.
    let _ = rustix::event::poll(&mut polled, Some(&wait));
}

#[test]
fn two_clients_share_a_rate() {
    share(2, 200_000, 40_000);
}

#[test]
fn ten_clients_share_a_rate() {
    share(10, 200_000, 20_000);
}

#[test]
fn each_direction_has_a_shared_rate_for_itself_and_those_that_a_rule_names() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let rules = ["conn 2..3: rate 1B/s shared up", "conn 2: rate 1kB/s shared @ byte 1 up"];
    let flags: Vec<&str> = rules.iter().flat_map(|rule| ["--fault", rule]).collect();
    let proxy = Proxy::start(address, &flags);
    let began = Instant::now();
    for number in 1..=2 {
        let mut client = proxy.client();
        let mut server = accept(&listener);
        server.send(&pattern(5000));
        client.receives(&pattern(5000));
        client.send(&pattern(200));
        server.receives(&pattern(200));
        client.half_close();
        server.receives_end();
        server.half_close();
        client.receives_end();
        proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
        // The rule that holds from the second byte on takes the place of the other one.
        assert!(number == 1 || began.elapsed() >= Duration::from_millis(198));
    }
    proxy.stop();
}

#[test]
fn pieces_come_one_by_one() {
    let Through { proxy, mut client, mut server } = through(&["dribble 3 per 60ms up"], &[]);
    let began = Instant::now();
    client.send(b"abcdefgh");
    for piece in [&b"abc"[..], b"def", b"gh"] {
        server.receives(piece);
    }
    assert!(began.elapsed() >= Duration::from_millis(120));
    end(Through { proxy, client, server });
}

#[test]
fn pieces_and_windows_lose_nothing() {
    let rules = ["split 1 every 3 up", "window 4096 up", "merge 5000 within 5ms down"];
    let Through { proxy, mut client, mut server } = through(&rules, &[]);
    let question = pattern(50_000);
    client.send(&question);
    server.receives(&question);
    server.send(&question);
    client.receives(&question);
    end(Through { proxy, client, server });
}

#[test]
fn merged_bytes_come_at_once() {
    let Through { proxy, mut client, mut server } = through(&["merge 1000 within 20s up"], &[]);
    client.send(&pattern(600));
    client.send(&pattern(1000)[600..]);
    server.receives(&pattern(1000));
    client.send(b"rest");
    client.half_close();
    server.receives_to_end(b"rest");
    server.half_close();
    client.receives_end();
    proxy.stop();
}

#[test]
fn frames_are_sent_twice_later_shorter_or_not_at_all() {
    let rules = [
        "dup frame @ frame 1 up",
        "swap frame @ frame 2 up",
        "drop 1 frame @ frame 4 up",
        "length + 1 @ frame 5 up",
        "drop 1 frame @ frame 6 byte 7 up",
    ];
    let Through { proxy, mut client, mut server } = through(&rules, &["--framing", "u32be"]);
    let payloads: [&[u8]; 7] = [b"one", b"two", b"three", b"four", b"five", b"sixth", b"seven"];
    let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
    for piece in stream.chunks(5) {
        client.send(piece);
    }
    client.half_close();
    let [one, two, three, _, _, sixth, seven] = payloads.map(frame);
    let fifth = [&[0, 0, 0, 5][..], b"five"].concat();
    let expected = [one.clone(), one, three, two, fifth, sixth[..7].to_vec(), seven].concat();
    server.receives_to_end(&expected);
    server.half_close();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("frames_up"), close.count("undelivered_up")), (7, 0));
    proxy.stop();
}

#[test]
fn what_is_held_until_a_time_comes_then_and_whole() {
    let rule = "hold @ byte 1000 until time 300ms down";
    let Through { proxy, mut client, mut server } = through(&[rule], &[]);
    let answer = pattern(200_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            server.send(&answer);
            server.half_close();
        });
        client.receives_to_end(&answer);
    });
    client.half_close();
    server.receives_end();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert!(close.number("duration_ms") >= 300.0, "{close:?}");
    proxy.stop();
}

#[test]
fn a_delay_ends_after_its_last_byte() {
    let Through { proxy, mut client, mut server } =
        through(&["delay 5s @ byte 4 until byte 8 up"], &[]);
    client.send(b"four");
    server.receives(b"four");
    let began = Instant::now();
    client.send(b"late");
    server.receives(b"late");
    assert!(began.elapsed() >= Duration::from_secs(5));
    let began = Instant::now();
    client.send(b"soon");
    server.receives(b"soon");
    assert!(began.elapsed() < Duration::from_secs(5));
    end(Through { proxy, client, server });
}

#[test]
fn a_pace_that_ends_at_a_time_keeps_nothing_back_from_then_on() {
    let rule = "dribble 1 per 1000s until time 200ms up";
    let Through { proxy, mut client, mut server } = through(&[rule], &[]);
    let question = pattern(100_000);
    client.send(&question);
    server.receives(&question);
    let lifted = proxy.event_about(client.address(), "fault_lifted");
    assert_eq!(lifted.text("rule"), rule);
    end(Through { proxy, client, server });
}

#[test]
fn a_fin_that_is_swallowed_until_a_time_comes_then() {
    let rule = "swallow fin until time 300ms up";
    let Through { proxy, mut client, mut server } = through(&[rule], &[]);
    client.send(b"question");
    client.half_close();
    server.receives_to_end(b"question");
    // The other direction is still open, so no close has sent it.
    server.send(b"answer");
    client.receives(b"answer");
    server.half_close();
    client.receives_end();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert!(close.number("duration_ms") >= 300.0, "{close:?}");
    proxy.stop();
}

#[test]
fn a_fault_at_a_time_needs_no_bytes() {
    let Through { proxy, mut client, mut server } = through(&["rst both @ time 60ms up"], &[]);
    client.receives_reset();
    server.receives_reset();
    let close = proxy.ends(client.address(), "fault", ["open", "rst", "open", "rst"]);
    assert!(close.number("duration_ms") >= 60.0, "{close:?}");
    proxy.stop();
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_closed_by_a_rule() {
    let Through { proxy, mut client, mut server } = through(&["close @ idle 50ms up"], &[]);
    server.receives_end();
    client.receives_end();
    client.half_close();
    server.half_close();
    proxy.ends(client.address(), "fault", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn one_side_is_reset_and_the_other_gets_fin() {
    let Through { proxy, mut client, mut server } = through(&["rst client @ byte 4 up"], &[]);
    client.send(b"question");
    server.receives_to_end(b"ques");
    client.receives_reset();
    proxy.ends(client.address(), "fault", ["open", "rst", "open", "fin"]);
    proxy.stop();
}
