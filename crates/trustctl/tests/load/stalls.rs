//! A server that stalls for one second in ten: what an open loop shows about it, and what a closed
//! one hides.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::command::{RUN_DEADLINE, load};
use super::document::{Document, time};
use super::server::{Client, Server};
use trust_testkit::kernel;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_stall_is_seen_in_an_open_loop_and_hidden_by_a_closed_one,
    a_stall_that_a_signal_ends_is_in_the_percentiles,
];

/// How long the server stalls, once.
const STALL: Duration = Duration::from_secs(1);

/// When the stall begins, after the server's first message.
const STALL_AFTER: Duration = Duration::from_secs(4);

fn stalling() -> Server {
    Server::start(|client: &mut Client| {
        let first = client.frame()?;
        let begun = Instant::now();
        client.send(&first)?;
        while begun.elapsed() < STALL_AFTER {
            client.echo_frames(1)?;
        }
        // While it holds a message, which waits for the whole stall, whenever it came.
        let unlucky = client.frame()?;
        thread::sleep(STALL);
        client.send(&unlucky)?;
        client.echo()
    })
}

fn a_stall_is_seen_in_an_open_loop_and_hidden_by_a_closed_one() {
    let (for_open, for_closed) = (stalling(), stalling());
    let homes = (Home::new(), Home::new());
    let flags = "--duration 10 --in-flight 1 --json";
    let open = load(&homes.0, &for_open, &format!("{flags} --rate 500")).start();
    let closed = load(&homes.1, &for_closed, flags).start();
    let open = Document::read(&open.wait_for(RUN_DEADLINE).exits_with(0));
    let closed = Document::read(&closed.wait_for(RUN_DEADLINE).exits_with(0));

    // A tenth of all messages were due in the stall and waited for the rest of it. The slowest
    // hundredth of all messages waited for nine tenths of it or more.
    open.is_all_right(5_000);
    assert_eq!(open.duration(), Duration::from_secs(10));
    assert_eq!(open.rate.requested_per_second, Some(500.0));
    let (p99, max) = (time(open.latency.p99_ns), time(open.latency.max_ns));
    assert!((STALL * 88 / 100..STALL * 3 / 2).contains(&p99), "{p99:?}");
    assert!(max >= STALL, "{max:?}");
    assert!(time(open.latency.p50_ns) < STALL / 4, "{:?}", open.latency);
    // Only one message was with the server while it stalled.
    assert!(time(open.service.p99_ns) < STALL / 4, "{:?}", open.service);
    assert!(time(open.service.max_ns) >= STALL, "{:?}", open.service);
    // The others waited with the client, which says so: those of the stall, and those that a busy
    // machine adds. On one core with many other processes that was half of all.
    let held_back = open.client.held_back;
    assert!((450..5_000).contains(&held_back), "{held_back}");

    // A closed loop sends nothing meanwhile: it has one slow message.
    assert_eq!((closed.errors.total, closed.messages.failed), (0, 0));
    assert!(time(closed.latency.p99_ns) < STALL / 4, "{:?}", closed.latency);
    assert!(time(closed.latency.max_ns) >= STALL, "{:?}", closed.latency);
    assert_eq!(closed.rate.requested_per_second, None);
}

fn a_stall_that_a_signal_ends_is_in_the_percentiles() {
    const ANSWERED: usize = 300;
    const UNANSWERED: usize = 400;
    let server = Server::start(|client: &mut Client| {
        client.echo_frames(ANSWERED)?;
        client.be_silent()
    });
    let home = Home::new();
    let flags = "--duration 3600 --rate 200 --in-flight 1000 --json";
    let running = load(&home, &server, flags).start();
    kernel::wait_until("a stall of two seconds", || server.frames() >= ANSWERED + UNANSWERED);
    running.signal(Signal::INT);
    let seen = Document::read(&running.wait().exits_with(130));

    // Four messages in seven wait, the first of them for two seconds, and the slowest hundredth of
    // all for hardly less.
    assert_eq!(seen.messages.answered, ANSWERED as u64, "{seen:?}");
    assert!(seen.messages.outstanding >= UNANSWERED as u64, "{seen:?}");
    let (p99, max) = (time(seen.latency.p99_ns), time(seen.latency.max_ns));
    assert!(p99 >= Duration::from_millis(1_900) && max >= Duration::from_millis(1_970), "{seen:?}");
    // They were sent, so the time that they waited is the server's.
    assert!(time(seen.service.p99_ns) >= Duration::from_millis(1_900), "{seen:?}");
    // As nothing failed, the errors show nothing of it.
    assert_eq!((seen.errors.total, seen.messages.failed), (0, 0), "{seen:?}");
}
