//! How a run ends early: by a signal, or because its output is not read.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use rustix::process::Signal;

use super::command::{RUN_DEADLINE, load};
use super::document::Document;
use super::logs::Log;
use super::server::Server;
use trust_load::report::json::EndState;
use trust_testkit::kernel;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::terminal::Terminal;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_signal_ends_a_run_with_the_result_so_far,
    a_signal_before_anybody_is_connected_is_obeyed,
    a_second_reader_takes_the_log_that_a_signal_ended,
    a_log_of_nothing_but_a_warm_up_is_one,
    a_reader_that_leaves_ends_the_run_quietly,
    files_are_written_for_somebody_else,
    progress_is_for_terminals_alone,
];

/// Longer than any test waits.
const ENDLESS: &str = "--duration 3600 --rate 200 --concurrency 2";

/// How many frames to wait for before sending a signal.
const FRAMES: usize = 50;

fn a_signal_ends_a_run_with_the_result_so_far() {
    for (signal, name, code) in [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143)] {
        for is_json in [true, false] {
            let (home, server) = (Home::new(), Server::echo());
            let flags = if is_json { "--json" } else { "" };
            let running = load(&home, &server, &format!("{ENDLESS} {flags}")).start();
            kernel::wait_until("some frames", || server.frames() >= FRAMES);
            running.signal(signal);
            let finished = running.wait().exits_with(code);
            if !is_json {
                let text = finished.text();
                assert!(text.contains(name) && text.contains("Time to an echo"), "{text}");
                finished.complains_about_nothing();
                continue;
            }
            let seen = Document::read(&finished);
            assert_eq!(
                (seen.end.state, seen.end.detail.as_deref()),
                (EndState::Stopped, Some(name))
            );
            assert!(seen.messages.answered >= FRAMES as u64 / 2, "{seen:?}");
            let on_the_way = seen.messages.sent - seen.messages.answered - seen.messages.failed;
            assert!(on_the_way <= 2 * 100, "{seen:?}");
            assert_eq!((seen.errors.total, seen.messages.failed), (0, 0), "{seen:?}");
            assert!(seen.duration() < Duration::from_secs(60), "{seen:?}");
            // Bytes that the server had not read when the client left may be lost: an answer sent
            // after that is met by an RST.
            let frames: usize = server.seen_at_last().iter().map(|seen| seen.frames.len()).sum();
            let counted = seen.messages.answered..=seen.messages.sent;
            assert!(counted.contains(&(frames as u64)), "{frames} frames: {seen:?}");
            finished.complains_about_nothing();
        }
    }
}

fn a_signal_before_anybody_is_connected_is_obeyed() {
    // The start is in an hour: nothing is connected until then.
    let start = jiff::Timestamp::now() + Duration::from_secs(3600);
    let (home, server) = (Home::new(), Server::echo());
    let running = load(&home, &server, &format!("--start-at {start} --json")).start();
    kernel::wait_until_quiet(|| vec![running.pid()]);
    running.signal(Signal::INT);
    let finished = running.wait().exits_with(130);
    let seen = Document::read(&finished);
    assert_eq!((seen.end.state, seen.end.detail.as_deref()), (EndState::Stopped, Some("SIGINT")));
    assert_eq!((seen.connections.made, seen.messages.sent), (0, 0));
    assert!(server.seen().is_empty());
    finished.complains_about_nothing();
}

fn a_second_reader_takes_the_log_that_a_signal_ended() {
    let (home, server) = (Home::new(), Server::echo());
    let path = home.elsewhere("a.hlog");
    let flags = format!("{ENDLESS} --json --hdr-log {}", path.display());
    let running = load(&home, &server, &flags).start();
    // More than a second, so that there is one whole interval and part of another.
    kernel::wait_until("some frames", || server.frames() >= 300);
    running.signal(Signal::INT);
    let seen = Document::read(&running.wait().exits_with(130));
    let log = Log::read(&path);
    assert!(log.rows.len() >= 2 && log.end.is_some(), "{:?}", log.rows);
    log.says_the_same_as(&seen);
}

fn a_log_of_nothing_but_a_warm_up_is_one() {
    let (home, server) = (Home::new(), Server::echo());
    let path = home.elsewhere("a.hlog");
    let flags = format!("{ENDLESS} --warm-up 3600 --json --hdr-log {}", path.display());
    let running = load(&home, &server, &flags).start();
    kernel::wait_until("some frames", || server.frames() >= FRAMES);
    running.signal(Signal::INT);
    let seen = Document::read(&running.wait().exits_with(130));
    assert!(seen.messages.warm_up >= FRAMES as u64 / 2 && seen.messages.sent == 0, "{seen:?}");
    assert_eq!((seen.latency.count, seen.duration()), (0, Duration::ZERO), "{seen:?}");
    let log = Log::read(&path);
    assert!(log.rows.is_empty() && log.end.is_some(), "{:?}", log.rows);
}

fn a_reader_that_leaves_ends_the_run_quietly() {
    // `| head -1`, while there is more to come.
    let (home, server) = (Home::new(), Server::echo());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let running = load(&home, &server, &format!("{ENDLESS} --csv")).stdout(writer).start();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).expect("a line");
    assert!(line.starts_with("start_seconds,"), "{line:?}");
    running.wait().exits_with(0).complains_about_nothing();

    // The reader is gone when the result is printed.
    for flags in ["", "--json", "--csv"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let flags = format!("--concurrency 1 --messages 5 {flags}");
        let running = load(&home, &server, &flags).stdout(writer).start();
        running.wait().exits_with(0).complains_about_nothing();
    }
}

fn files_are_written_for_somebody_else() {
    let (home, server) = (Home::new(), Server::echo());
    let path = home.elsewhere("a.hlog");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let flags = format!("--csv --rate 100 --duration 1.5 --hdr-log {}", path.display());
    let running = load(&home, &server, &flags).stdout(writer).start();
    running.wait_for(RUN_DEADLINE).exits_with(0).complains_about_nothing();
    let log = Log::read(&path);
    assert!(log.end.is_some());
    assert_eq!(log.latency.len(), 150);
}

fn progress_is_for_terminals_alone() {
    let (home, server) = (Home::new(), Server::echo());
    let flags = "--rate 100 --duration 3.2";
    load(&home, &server, flags)
        .start()
        .wait_for(RUN_DEADLINE)
        .exits_with(0)
        .complains_about_nothing();

    let terminal = Terminal::open();
    // The progress line comes back after each line of CSV: percentiles are known after the first.
    let flags = format!("{flags} --csv");
    let running = load(&home, &server, &flags).env("TERM", "xterm").stderr(terminal.end()).start();
    let finished = running.wait_for(RUN_DEADLINE).exits_with(0);
    assert!(!finished.text().contains('\x1b'), "{}", finished.text());
    let shown = terminal.shown();
    for word in ["measuring 0:0", "/s", "p50 ", "p99 ", "0 errors", " left"] {
        assert!(shown.contains(word), "no {word:?} in {shown:?}");
    }
    assert!(shown.ends_with("\x1b[2K"), "it is taken away: {shown:?}");
}
