//! Why messages and connections fail: each cause is counted under its name, and nothing is retried
//! silently.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::command::{document, run};
use super::csv::Csv;
use super::document::{Document, time};
use super::server::{Backlog, Client, Server};
use trust_load::report::json::EndState;
use trust_load::summary::Cause;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_server_that_is_not_there_is_told_in_any_output,
    clients_that_come_too_late_are_refused,
    a_full_backlog_is_a_connect_timeout,
    each_end_that_comes_too_early_has_its_cause,
    a_timeout_is_in_the_percentiles,
    a_whole_answer_that_takes_longer_than_the_timeout_is_counted_as_slow,
    a_whole_answer_that_takes_longer_than_its_own_timeout_is_an_error,
    what_fails_in_an_open_loop_is_counted_too,
    a_server_that_comes_back_is_connected_to_anew,
    what_was_still_owed_at_the_end_is_a_timeout,
    an_answer_in_another_protocol_is_shown_in_every_report,
    a_duration_bounds_the_run_without_a_timeout_too,
    the_grace_is_for_the_last_answers_of_a_duration,
];

/// An address without a listener.
fn no_server() -> (Home, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    (Home::new(), listener.local_addr().expect("an address"))
}

fn a_server_that_is_not_there_is_told_in_any_output() {
    let (home, address) = no_server();
    let port = address.port().to_string();
    let launch = |flags: &[&str]| {
        home.trustctl(["load", "--host", "127.0.0.1", "--port", &port, "--concurrency", "3"])
            .args(flags)
    };
    for flags in [&[][..], &["--csv"]] {
        let finished = launch(flags).run().exits_with(69).prints("");
        finished.complains_about(&["refused", &address.to_string()]).complains_in_one_line();
    }
    let finished =
        launch(&["--json", "--fail-if", "errors>0", "--rate", "10"]).run().exits_with(69);
    let document = Document::read(&finished);
    assert_eq!((document.end.state, document.exit), (EndState::Unreachable, 69));
    let detail = document.end.detail.as_deref().unwrap_or_default();
    assert!(detail.contains("refused"), "{detail:?}");
    assert_eq!((document.connections.made, document.latency.count), (0, 0));
    finished.complains_about(&["refused"]).complains_in_one_line();
}

fn clients_that_come_too_late_are_refused() {
    let server = Server::for_one(|client, _| client.echo(), Backlog::Gone);
    let late = document(&server, "--clients 5 --concurrency 1 --messages 3", 1);
    assert_eq!(late.causes(), [("refused", 4)], "{late:?}");
    assert_eq!((late.messages.sent, late.messages.answered, late.messages.failed), (3, 3, 12));
    assert_eq!(late.connections.made, 1);
    assert_eq!(late.end.state, EndState::Complete);

    // While time is left, each attempt is reported, with a pause between attempts.
    let server = Server::for_one(|client, _| client.echo_frames(3), Backlog::Gone);
    let late = document(&server, "--duration 1.5 --think 0.02", 1);
    let refused = late.errors.by_cause[&Cause::Refused];
    assert!((1..=15).contains(&refused), "{late:?}");
    assert_eq!((late.errors.total, late.connections.made), (refused + 1, 1), "{late:?}");
    late.accounts_for_all();
}

fn a_full_backlog_is_a_connect_timeout() {
    let server = Server::for_one(|client, _| client.echo(), Backlog::Full);
    let late = document(&server, "--clients 2 --concurrency 1 --messages 3 --timeout 1.5", 1);
    assert_eq!(late.causes(), [("connect_timeout", 1)], "{late:?}");
    assert_eq!((late.messages.answered, late.messages.failed), (3, 3));
    // No connection at all succeeds now.
    let finished = run(&server, "--concurrency 1 --timeout 0.3 --json");
    let document = Document::read(&finished);
    assert_eq!(document.end.state, EndState::Unreachable);
    finished.exits_with(75).complains_about(&["no answer within 0.3 s"]).complains_in_one_line();
}

/// The frame after two that were answered.
fn third(client: &mut Client) -> io::Result<Vec<u8>> {
    client.echo_frames(2)?;
    client.frame()
}

fn each_end_that_comes_too_early_has_its_cause() {
    type Serve = fn(&mut Client) -> io::Result<()>;
    // What the server does, how many messages it gets to see, and how the load reports it.
    let cases: [(Serve, u64, &str); 8] = [
        (|client| third(client).and_then(|_| client.leave()), 3, "eof_between_frames"),
        (
            |client| client.echo_frames(1).and_then(|()| client.echo_and_leave()),
            2,
            "eof_between_frames",
        ),
        (
            |client| {
                let frame = third(client)?;
                client.send(&frame[..10])?;
                client.leave()
            },
            3,
            "eof_in_frame",
        ),
        (|client| third(client).and_then(|_| client.reset()), 3, "reset_before_answer"),
        (
            |client| {
                let frame = third(client)?;
                client.send(&frame[..67])?;
                client.reset()
            },
            3,
            "reset_before_answer",
        ),
        (|client| third(client).and_then(|_| client.be_silent()), 3, "timeout"),
        (
            |client| {
                let mut frame = third(client)?;
                frame[67] ^= 1;
                client.send(&frame)?;
                client.be_silent()
            },
            3,
            "mismatch",
        ),
        (
            |client| {
                client.echo_frames(1)?;
                let frame = client.frame()?;
                client.send(&[&frame[..], b"!"].concat())?;
                client.be_silent()
            },
            2,
            "surplus",
        ),
    ];
    for (serve, sent, cause) in cases {
        let server = Server::start(serve);
        // Each client pauses, so that it has time to see what comes with an echo.
        let flags = "--clients 2 --concurrency 1 --messages 5 --timeout 1.5 --think 0.1";
        let seen = document(&server, flags, 1);
        assert_eq!(seen.causes(), [(cause, 2)], "{seen:?}");
        let counts = (seen.messages.sent, seen.messages.answered, seen.messages.failed);
        assert_eq!(counts, (2 * sent, 4, 6), "{cause}: {seen:?}");
        assert_eq!(server.frames() as u64, seen.messages.sent, "{cause}");
        assert_eq!((server.seen().len() as u64, seen.connections.made), (2, 2), "{cause}");
        let text = run(&server, flags).exits_with(1);
        assert!(text.text().contains(&format!(" {cause}\n")), "{}", text.text());
    }
    // Only an idle client sees that.
    let server =
        Server::start(|client: &mut Client| client.echo_frames(2).and_then(|()| client.reset()));
    let seen = document(&server, "--messages 5 --think 0.5", 1);
    assert_eq!(seen.causes(), [("reset_after_answer", 1)], "{seen:?}");
    assert_eq!((seen.messages.sent, seen.messages.answered, seen.messages.failed), (2, 2, 3));
}

fn a_timeout_is_in_the_percentiles() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let server = Server::start(|client: &mut Client| {
        client.echo_frames(9)?;
        client.be_silent()
    });
    let seen = document(&server, "--messages 100 --timeout 1 --fail-if p99>=1s", 1);
    assert_eq!(seen.causes(), [("timeout", 1)], "{seen:?}");
    assert_eq!((seen.messages.answered, seen.messages.failed), (9, 91));
    assert_eq!(seen.latency.count, 10, "nine answers and the wait for the tenth");
    for times in [&seen.latency, &seen.service] {
        assert!(time(times.p99_ns) >= TIMEOUT && time(times.max_ns) >= TIMEOUT, "{times:?}");
        assert!(time(times.p50_ns) < TIMEOUT, "{times:?}");
    }
    assert!(seen.budgets[0].is_missed, "{seen:?}");
}

/// A server that sends each byte of an echo separately, so that a whole echo takes more than a
/// second.
fn dripping() -> Server {
    Server::start(|client: &mut Client| {
        loop {
            for byte in client.frame()? {
                thread::sleep(Duration::from_millis(20));
                client.send(&[byte])?;
            }
        }
    })
}

fn a_whole_answer_that_takes_longer_than_the_timeout_is_counted_as_slow() {
    let server = dripping();
    let flags = "--concurrency 2 --messages 1 --timeout 1";
    let seen = document(&server, flags, 0);
    seen.is_all_right(2);
    assert_eq!(seen.messages.slow, 2, "{seen:?}");
    let budget = document(&server, &format!("{flags} --fail-if slow>0"), 1);
    assert_eq!(budget.budgets[0].measured, "2", "{budget:?}");
    let text = run(&server, flags).exits_with(0);
    let told = "2 answers took longer than --timeout";
    assert!(text.text().contains(told), "{}", text.text());
    let csv = run(&server, &format!("{flags} --csv")).exits_with(0);
    assert_eq!(Csv::read(csv.text()).rows.iter().map(|row| row.slow).sum::<u64>(), 2);
    let sequential = run(&server, "--clients 1 --messages 1 --timeout 1").exits_with(0);
    let told = "1 answer took longer than --timeout";
    assert!(sequential.text().contains(told), "{}", sequential.text());
    let patient = document(&server, "--concurrency 1 --messages 1 --timeout 0", 0);
    assert_eq!(patient.messages.slow, 0, "{patient:?}");
}

fn a_whole_answer_that_takes_longer_than_its_own_timeout_is_an_error() {
    let server = dripping();
    let flags = "--concurrency 2 --messages 3 --timeout 5 --answer-timeout 0.5";
    let seen = document(&server, flags, 1);
    assert_eq!(seen.causes(), [("timeout", 2)], "{seen:?}");
    assert_eq!((seen.messages.answered, seen.messages.failed), (0, 6), "{seen:?}");
    assert_eq!(seen.facts["answer_timeout"], "0.5 s", "{seen:?}");
    let patient = document(&server, "--concurrency 1 --messages 1 --answer-timeout 30", 0);
    patient.is_all_right(1);
}

fn what_fails_in_an_open_loop_is_counted_too() {
    // Every connection ends after ten frames.
    let server = Server::start(|client: &mut Client| {
        client.echo_frames(10)?;
        client.leave()
    });
    let seen = document(&server, "--rate 200 --duration 1", 1);
    assert_eq!(seen.causes(), [("eof_between_frames", seen.errors.total)], "{seen:?}");
    seen.accounts_for_all();
    assert_eq!(seen.messages.sent + seen.messages.unsent, 200, "all that was due: {seen:?}");
    let connections = server.seen_at_last();
    assert_eq!(seen.connections.made, connections.len() as u64);
    let frames: usize = connections.iter().map(|seen| seen.frames.len()).sum();
    assert_eq!(seen.messages.sent, frames as u64, "{seen:?}");
    let answered: usize = connections.iter().map(|seen| seen.frames.len().min(10)).sum();
    assert_eq!(seen.messages.answered, answered as u64, "{seen:?}");
}

fn a_server_that_comes_back_is_connected_to_anew() {
    const PAUSE: Duration = Duration::from_millis(100);
    let server = Server::start(|client: &mut Client| {
        client.echo_frames(3)?;
        client.leave()
    });
    let begun = Instant::now();
    let seen = document(&server, "--duration 1 --concurrency 2", 1);
    assert_eq!(seen.causes(), [("eof_between_frames", seen.errors.total)], "{seen:?}");
    seen.accounts_for_all();
    let connections = server.seen_at_last();
    assert_eq!(seen.connections.made, connections.len() as u64);
    // The run may end before the third message of the last two connections.
    let answered: usize = connections.iter().map(|seen| seen.frames.len().min(3)).sum();
    assert_eq!(seen.messages.answered, answered as u64, "{seen:?}");
    assert!(seen.messages.answered + 6 >= 3 * seen.connections.made, "{seen:?}");
    assert!(seen.errors.total >= seen.connections.made - 2, "{seen:?}");
    // Two at the beginning, and two more after each pause.
    for (at, connection) in connections.iter().enumerate() {
        let since = connection.accepted - begun;
        let due = PAUSE * (at as u32 / 2);
        assert!(since >= due, "connection {at} came after {since:?}");
    }
}

fn what_was_still_owed_at_the_end_is_a_timeout() {
    const PER_ANSWER: Duration = Duration::from_millis(300);
    // Slow enough for a backlog, but never so slow that a single answer is late.
    let server = Server::start(|client: &mut Client| {
        loop {
            let frame = client.frame()?;
            thread::sleep(PER_ANSWER);
            client.send(&frame)?;
        }
    });
    let seen = document(&server, "--rate 20 --duration 0.5 --timeout 2", 1);
    assert_eq!(seen.causes(), [("timeout", 1)], "{seen:?}");
    assert_eq!((seen.messages.sent, seen.messages.unsent), (10, 0), "{seen:?}");
    assert!((1..10).contains(&seen.messages.answered), "{seen:?}");
    seen.accounts_for_all();
    assert_eq!(
        seen.latency.count, 10,
        "each has waited for two seconds or has its answer: {seen:?}"
    );
    assert!(time(seen.latency.max_ns) >= Duration::from_secs(2), "{seen:?}");
}

fn a_duration_bounds_the_run_without_a_timeout_too() {
    let server = Server::start(Client::be_silent);
    let flags = "--concurrency 2 --duration 200ms --timeout 0 --grace 300ms";
    let begun = Instant::now();
    let seen = document(&server, flags, 1);
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!((seen.messages.sent, seen.messages.failed, seen.messages.past_grace), (2, 2, 2));
    assert_eq!(seen.causes(), [("timeout", 2)]);
    assert_eq!((&*seen.facts["timeout"], &*seen.facts["grace"]), ("none", "0.3 s"));
    assert!(seen.again.contains("--duration 200ms --grace 300ms"), "{}", seen.again);

    let finished = run(&server, flags).exits_with(1);
    let said = finished.text().split_whitespace().collect::<Vec<_>>().join(" ");
    let words = "2 of them had no answer when the wait for the last ones (--grace) was over.";
    assert!(said.contains(words), "{said}");

    // Clients that wait for each other to connect wait no longer than the rest takes.
    let server = Server::for_one(|client, _| client.echo(), Backlog::Full);
    let seen = document(&server, "--concurrency 2 --duration 200ms --timeout 0 --grace 300ms", 1);
    // It retries while there is time.
    assert!(matches!(seen.causes()[..], [("connect_timeout", 1..)]), "{seen:?}");
}

fn the_grace_is_for_the_last_answers_of_a_duration() {
    // Longer than the run, which is long enough to begin on a busy machine.
    const LATE: Duration = Duration::from_millis(1500);
    let late = |client: &mut Client| {
        let frame = client.frame()?;
        thread::sleep(LATE);
        client.send(&frame)?;
        client.echo()
    };
    let server = Server::start(late);
    let seen = document(&server, "--duration 700ms --timeout 0", 0);
    assert_eq!((seen.messages.answered, seen.messages.past_grace), (1, 0));
    assert_eq!(seen.facts["grace"], "5 s");
    let seen = document(&server, "--duration 700ms --grace 0", 1);
    assert_eq!((seen.messages.answered, seen.messages.past_grace), (0, 1));

    let refused = run(&server, "--messages 3 --grace 1s").exits_with(64);
    let words = ["--grace goes only with --duration: other runs wait for all answers"];
    refused.complains_about(&words).complains_in_one_line();
}

fn an_answer_in_another_protocol_is_shown_in_every_report() {
    let home = Home::new();
    let server = Server::start(|client| {
        client.stream.read_exact(&mut [0; 68])?;
        client.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    });
    let flags = "--clients=1 --concurrency=1 --messages=1";
    let seen = document(&server, flags, 1);
    let answer = seen.foreign_answer.as_ref().expect("it came");
    assert_eq!(answer.first_bytes, "HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(answer.hint.as_deref(), Some("looks like an HTTP response"));
    let page = home.elsewhere("page.html");
    let html = format!("{flags} --html {}", page.display());
    let text = run(&server, &html).exits_with(1);
    let page = std::fs::read_to_string(page).expect("a page");
    for text in [text.text(), &page] {
        let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains("which looks like an HTTP response"), "{text}");
    }
    assert_eq!(document(&Server::echo(), flags, 0).foreign_answer, None);
}
