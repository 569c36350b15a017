//! Servers on unix sockets: what is tried there, what is not, and what is found.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};

use super::json;
use super::xml;
use trust_check::report::json::{CaseReport, CheckReport, VerdictName, WireEvent};
use trust_testkit::files::Files;
use trust_testkit::leftovers::OwnedChild;
use trust_testkit::program::{Finished, Home, Launch};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_right_server_on_a_unix_socket_is_not_accused,
    cases_that_need_tcp_are_skipped_by_name_in_every_report,
    a_header_that_is_read_with_one_receive_is_found_on_a_unix_socket_too,
    a_piece_that_the_server_does_not_read_shows_nothing,
    a_server_that_closes_over_unread_bytes_loses_nothing_and_is_blamed_only_if_that_is_asked_for,
    a_full_accept_queue_is_waited_for,
    a_server_that_is_started_is_told_its_socket_and_leaves_nothing,
    a_server_that_dies_on_a_unix_socket_is_started_again_on_another,
    a_process_that_does_not_listen_on_the_socket_is_not_watched,
    one_place_to_listen_is_asked_for,
];

/// Longest time for a run: some of them wait for a timeout, and the machine may be busy.
const RUN_DEADLINE: Duration = Duration::from_secs(120);

/// Largest payload of all servers.
const MAX_FRAME: u32 = 65_536;

/// Their timeout.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a server that dies says first, and its exit code.
const LAST_WORDS: &str = "this length is too much for me";
const DEATH_CODE: i32 = 7;

/// Runs the server of that kind on a socket of that path, for ever.
pub(crate) fn run(kind: &str, path: &str) -> ExitCode {
    let kind = match kind {
        "right" => Kind::Right,
        "dies" => Kind::Dies,
        _ => return ExitCode::from(64),
    };
    let Ok(listener) = UnixListener::bind(path) else { return ExitCode::FAILURE };
    for stream in listener.incoming().flatten() {
        thread::spawn(move || echo(stream, kind));
    }
    ExitCode::SUCCESS
}

/// The command that starts a server of that kind.
fn command(kind: &str) -> String {
    let own = std::env::current_exe().expect("the path of this executable");
    format!("exec '{}' serve-unix {kind} {{socket}}", own.display())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Right.
    Right,
    /// Right; it peeks until a message is whole, and reads it then.
    Peeks,
    /// What one receive brings is a whole header, or forgotten.
    ReadsOnce,
    /// After a length that is refused it closes at once, with bytes unread.
    ClosesAtOnce,
    /// A length that is refused ends the process.
    Dies,
}

/// Serves clients on that socket, each in a thread, for as long as the test runs.
fn serve(listener: UnixListener, kind: Kind) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream, kind));
        }
    });
}

fn echo(mut stream: UnixStream, kind: Kind) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    loop {
        let mut message = vec![0; 4];
        match kind {
            Kind::ReadsOnce => match stream.read(&mut message)? {
                4 => {}
                // It waits for a header that has come already.
                _ => return stream.read_to_end(&mut message).map(drop),
            },
            Kind::Peeks => peek(&stream, &mut message)?,
            _ => match stream.read_exact(&mut message) {
                Ok(()) => {}
                Err(_) => return leave(&stream),
            },
        }
        let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
        if length > MAX_FRAME {
            match kind {
                Kind::ClosesAtOnce => return Ok(()),
                Kind::Dies => {
                    writeln!(io::stderr(), "{LAST_WORDS}")?;
                    std::process::exit(DEATH_CODE);
                }
                _ => return leave(&stream),
            }
        }
        message.resize(4 + length as usize, 0);
        match kind {
            Kind::Peeks => {
                peek(&stream, &mut message)?;
                stream.read_exact(&mut message)?;
            }
            _ => match stream.read_exact(&mut message[4..]) {
                Ok(()) => {}
                Err(_) => return leave(&stream),
            },
        }
        stream.write_all(&message)?;
    }
}

/// Waits until as many bytes are there, and leaves them there.
fn peek(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<()> {
    let mut seen = 0;
    while seen < bytes.len() {
        let (_, count) = recv(stream, &mut *bytes, RecvFlags::PEEK)?;
        if count == seen {
            thread::sleep(Duration::from_millis(1));
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen = count;
    }
    Ok(())
}

/// The end of the stream first, then the client's, so that nothing is unread.
fn leave(mut stream: &UnixStream) -> io::Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// A listening socket, and its name as a server.
fn listener(files: &Files) -> (UnixListener, String) {
    let path = files.path("x.sock");
    let listener = UnixListener::bind(Path::new(&path)).expect("a socket");
    (listener, format!("unix:{path}"))
}

fn launch(server: &str, flags: &[&str]) -> Launch {
    Home::new().trustctl(["check", server]).args(flags).without_env("NO_COLOR")
}

fn check(server: &str, flags: &[&str]) -> Finished {
    launch(server, flags).start().wait_for(RUN_DEADLINE)
}

/// The report on a server of that kind.
fn report(kind: Kind, flags: &[&str]) -> CheckReport {
    let files = Files::new();
    let (listener, server) = listener(&files);
    serve(listener, kind);
    json::read(check(&server, &[flags, &["--json"]].concat()).text())
}

#[track_caller]
fn case<'r>(report: &'r CheckReport, id: &str) -> &'r CaseReport {
    report.cases.iter().find(|case| case.about.id == id).expect("the case was asked for")
}

fn a_right_server_on_a_unix_socket_is_not_accused() {
    let report = report(Kind::Right, &["--timeout=2"]);
    for case in &report.cases {
        let is_accused = matches!(case.verdict, VerdictName::Fail | VerdictName::Warn);
        assert!(!is_accused, "{}: {:?}", case.about.id, case.got);
    }
    assert_eq!(report.exit, 0);
    assert!(report.counts.pass >= 70, "{:?}", report.counts);
    let server = &report.server;
    assert!(server.address.as_ref().is_some_and(|it| it.starts_with("unix:/")), "{server:?}");
    assert_eq!(server.address, server.target);
    let apart = &case(&report, "partial/1").transcript;
    assert!(apart.iter().any(|entry| entry.what == WireEvent::LeftAlone), "{apart:?}");
    let is_reset = |entry: &trust_check::report::json::TranscriptLine| {
        matches!(entry.what, WireEvent::SentRst | WireEvent::ReceivedRst)
    };
    assert!(!report.cases.iter().flat_map(|case| &case.transcript).any(is_reset));
}

fn cases_that_need_tcp_are_skipped_by_name_in_every_report() {
    let files = Files::new();
    let (listener, server) = listener(&files);
    serve(listener, Kind::Right);
    let (junit, html) = (files.path("junit.xml"), files.path("page.html"));
    let cases = "--case=framing/1,framing/19,closing/5,closing/12,timing/6,resources/4";
    let flags = [cases, "--junit", &junit, "--html", &html];
    let text = check(&server, &flags).exits_with(0);
    let reasons = [
        ("framing/19", "a segment needs TCP"),
        ("closing/5, 12", "a RST needs TCP"),
        ("timing/6", "Nagle's algorithm needs TCP"),
        ("resources/4", "CLOSE_WAIT needs TCP"),
    ];
    for (ids, why) in reasons {
        let line = format!("skipped       {ids}\n              because {why}\n");
        assert!(text.text().contains(&line), "{ids}: {}", text.text());
    }
    assert!(text.text().ends_with("1 case tried: 1 passed, 0 failed; 5 skipped\n"));
    let document = json::read(check(&server, &[cases, "--json"]).exits_with(0).text());
    let skipped: Vec<_> = document
        .cases
        .iter()
        .filter(|case| case.verdict == VerdictName::Skipped)
        .map(|case| (case.about.id.as_str(), case.said.as_deref().expect("why")))
        .collect();
    let expected = [
        ("framing/19", reasons[0].1),
        ("closing/5", reasons[1].1),
        ("closing/12", reasons[1].1),
        ("timing/6", reasons[2].1),
        ("resources/4", reasons[3].1),
    ];
    assert_eq!(skipped, expected);
    let suite = xml::read(&files.read("junit.xml"));
    assert_eq!((suite.count("tests"), suite.count("failures")), (6, 0), "{suite:?}");
    for name in ["junit.xml", "page.html"] {
        let text = files.read(name);
        for what in ["a segment", "a RST", "algorithm", "CLOSE_WAIT"] {
            assert!(text.contains(&format!("{what} needs TCP")), "{what}: {text}");
        }
    }
    // Nothing else was asked for, which says nothing about the server.
    check(&server, &["--case=closing/5"]).exits_with(1);
}

fn a_header_that_is_read_with_one_receive_is_found_on_a_unix_socket_too() {
    let files = Files::new();
    let (listener, server) = listener(&files);
    serve(listener, Kind::ReadsOnce);
    let finished = check(&server, &["--case=framing/1,partial/1", "--patience=2"]).exits_with(1);
    for words in [
        "fail          partial/1       a header that comes in two pieces, cut everywhere",
        "   read, and left alone for 0.02 s\n",
        &format!("again     trustctl check {server} --patience 2 --seed 1 --case partial/1\n"),
    ] {
        assert!(finished.text().contains(words), "{words}: {}", finished.text());
    }
}

fn a_piece_that_the_server_does_not_read_shows_nothing() {
    let report = report(Kind::Peeks, &["--case=framing/1,framing/13,partial/1", "--patience=0.5"]);
    assert_eq!(case(&report, "framing/13").verdict, VerdictName::Pass);
    let pieces = case(&report, "partial/1");
    assert_eq!(pieces.verdict, VerdictName::Inconclusive, "{:?}", pieces.got);
    let said = "a piece was not read in time, so the pieces may have come together";
    assert_eq!(pieces.said.as_deref(), Some(said));
}

fn a_server_that_closes_over_unread_bytes_loses_nothing_and_is_blamed_only_if_that_is_asked_for() {
    let cases = "--case=framing/1,framing/6,closing/4,closing/13";
    let right = report(Kind::ClosesAtOnce, &[cases]);
    for case in &right.cases {
        assert_eq!(case.verdict, VerdictName::Pass, "{}: {:?}", case.about.id, case.got);
    }
    let is_note = |text: &Option<String>| {
        text.as_deref() == Some("the server closed over unread bytes (ECONNRESET)")
    };
    let transcript = &case(&right, "closing/4").transcript;
    assert!(transcript.iter().any(|entry| is_note(&entry.text)), "{transcript:?}");
    let strict = report(Kind::ClosesAtOnce, &[cases, "--reset=fail"]);
    assert_eq!(case(&strict, "closing/4").verdict, VerdictName::Fail);
}

fn a_full_accept_queue_is_waited_for() {
    let files = Files::new();
    let (listener, server) = listener(&files);
    rustix::net::listen(&listener, 0).expect("it listens already");
    serve(listener, Kind::Right);
    let report = json::read(
        check(&server, &["--case=framing/1,limits/4,limits/5,recovery/6", "--json"]).text(),
    );
    for case in &report.cases {
        assert_eq!(case.verdict, VerdictName::Pass, "{}: {:?}", case.about.id, case.got);
    }
}

/// The report on a server of that kind that the check starts, whose sockets are in `files`.
fn report_on_started(files: &Files, kind: &str, flags: &[&str]) -> CheckReport {
    let launch = Home::new().trustctl(["check", "--command", &command(kind), "--json"]);
    let launch = launch.args(flags).env("TMPDIR", files.path(""));
    json::read(launch.start().wait_for(RUN_DEADLINE).text())
}

fn a_server_that_is_started_is_told_its_socket_and_leaves_nothing() {
    let files = Files::new();
    let cases = "--case=framing/1,partial/1,recovery/5,resources/*";
    let report = report_on_started(&files, "right", &[cases]);
    for case in &report.cases {
        let id = case.about.id.as_str();
        let expected = match id {
            "resources/4" | "resources/8" | "resources/10" => VerdictName::Skipped,
            _ => VerdictName::Pass,
        };
        // A few descriptors or little memory may be measured.
        let is_right = case.verdict == expected || case.verdict == VerdictName::Info;
        assert!(is_right, "{id}: {:?} {:?}", case.got, case.said);
    }
    let start = format!("unix:{}/trustctl-check-", files.path("").trim_end_matches('/'));
    let address = report.server.address.as_ref().expect("it was reached");
    assert!(address.starts_with(&start), "{address}");
    let left = std::fs::read_dir(files.path("")).expect("the directory is there").count();
    assert_eq!(left, 0);
}

fn a_server_that_dies_on_a_unix_socket_is_started_again_on_another() {
    let files = Files::new();
    let flags = ["--case=framing/1,framing/6,framing/13", "--jobs=1"];
    let report = report_on_started(&files, "dies", &flags);
    let [death] = &report.deaths[..] else { panic!("{:?}", report.deaths) };
    assert!(death.how.contains("exit code 7") && death.how.contains(LAST_WORDS), "{death:?}");
    assert_eq!(case(&report, "framing/6").verdict, VerdictName::Fail);
    assert_eq!(case(&report, "framing/13").verdict, VerdictName::Pass);
    let left = std::fs::read_dir(files.path("")).expect("the directory is there").count();
    assert_eq!(left, 0);
}

fn a_process_that_does_not_listen_on_the_socket_is_not_watched() {
    let files = Files::new();
    let (listener, server) = listener(&files);
    serve(listener, Kind::Right);
    let pid = std::process::id().to_string();
    let flags = ["--case=framing/1,resources/6", "--json", "--pid"];
    let own = json::read(check(&server, &[&flags[..], &[&pid]].concat()).exits_with(0).text());
    assert_eq!(case(&own, "resources/6").verdict, VerdictName::Pass);
    let idle = OwnedChild::spawn(Command::new("sleep").arg("600"));
    let pid = idle.pid().as_raw_pid().to_string();
    let other = check(&server, &[&flags[..], &[&pid]].concat());
    let other = json::read(other.text());
    let said = case(&other, "resources/6").said.as_deref().unwrap_or_default();
    let why = format!("do not listen on {server}, so another process is the server");
    assert!(said.contains(&why), "{said}");
}

fn one_place_to_listen_is_asked_for() {
    for command in ["serve", "serve {port} {socket}"] {
        let refused = Home::new().trustctl(["check", "--command", command]).run().exits_with(64);
        refused.complains_about(&["a command for sh with {port} or {socket} in it"]);
    }
    let command = ["check", "-4", "--command", "serve {socket}"];
    let refused = Home::new().trustctl(command).run().exits_with(64);
    refused.complains_about(&["-4 cannot be used with {socket} in --command"]);
}
