//! The server's processes: started, observed, stopped, and noticed when they die.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use trust_check::cases;

use super::json;
use super::server::{DEATH_CODE, LAST_WORDS, command};
use trust_check::report::json::{RunState, VerdictName};
use trust_testkit::files::Files;
use trust_testkit::kernel;
use trust_testkit::program::Home;
use trust_testkit::server::Server;
use trust_testkit::suite::Named;
use trust_testkit::terminal::Terminal;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_started_server_is_watched_and_stopped,
    a_failed_start_is_told_with_last_words,
    a_slow_start_is_waited_for_in_its_time_and_in_words,
    a_server_that_does_not_end_is_waited_for_in_words_and_killed,
    a_server_that_dies_is_started_again_and_its_case_is_named,
    a_server_that_cannot_be_started_again_ends_the_run,
    a_death_behind_a_shell_is_noticed,
    a_process_is_watched_by_its_number,
    another_process_says_nothing,
    without_a_process_its_cases_are_skipped,
];

/// Longest time for a run that observes a process: it leaves the server idle now and then, and the
/// machine may be busy.
const WHOLE_CHECK: Duration = Duration::from_secs(120);

fn is_there(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

fn a_started_server_is_watched_and_stopped() {
    let files = Files::new();
    let pids = files.path("pids");
    let ours = env!("CARGO_BIN_EXE_trustctl");
    // A shell that waits, and a server that ignores nothing: both must go.
    let command = format!(
        "'{ours}' echo-server --mode framed --host 127.0.0.1 --timeout 2 --log-file none \
         --port {{port}} & echo $$ $! >'{pids}'; wait"
    );
    let flags = ["check", "--command", &command, "--case", "framing/*,resources/*", "--json"];
    let home = Home::new();
    let finished =
        home.trustctl(flags).start().wait_for(WHOLE_CHECK).exits_with(0).complains_about_nothing();
    let report = json::read(finished.text());
    for case in report.cases.iter().filter(|case| case.about.id.starts_with("resources/")) {
        let expected = match case.about.id.as_str() {
            // Frames of the default size declare too little, and no timeout was given.
            "resources/8" | "resources/10" => VerdictName::Skipped,
            _ => VerdictName::Pass,
        };
        assert_eq!(case.verdict, expected, "{}: {:?}", case.about.id, case.said);
    }
    let pids = files.read("pids");
    assert_eq!(pids.split_whitespace().count(), 2);
    kernel::wait_until("the end of both", || !pids.split_whitespace().any(is_there));
    assert_eq!(report.server.pid.map(|pid| pid.to_string()).as_deref(), pids.split(' ').next());
}

fn a_failed_start_is_told_with_last_words() {
    let failed = |command: &str, words: &[&str]| {
        let started = Instant::now();
        let finished = Home::new().trustctl(["check", "--command", command]).run().exits_with(69);
        finished.prints("").complains_about(words).complains_in_one_line();
        assert!(started.elapsed().as_secs() < 9, "it was waited for");
    };
    failed("echo no such thing {port} >&2; exit 3", &["exit code 3", "its stderr: no such thing"]);
    failed("kill -PIPE $$ # {port}", &["ended by SIGPIPE; it wrote nothing to stderr"]);
    failed("/no/such/server {port}", &["exit code 127", "/no/such/server"]);
    let finished = Home::new()
        .trustctl(["check", "--command", "exit 5 # {port}", "--json"])
        .run()
        .exits_with(69);
    let report = json::read(finished.text());
    assert_eq!(report.state, RunState::Unreachable);
    assert!(report.detail.is_some_and(|why| why.contains("exit code 5")));
}

fn a_slow_start_is_waited_for_in_its_time_and_in_words() {
    let command = format!("sleep 1.2; {}", command("right"));
    let check = ["check", "--command", &command, "--case", "framing/2"];
    let short = Home::new().trustctl(check).args(["--start-timeout", "100ms"]).run();
    let words = ["the server accepts no connections on port", "after 0.1 s (--start-timeout)"];
    short.exits_with(69).complains_about(&words).complains_in_one_line();

    Home::new().trustctl(check).run().exits_with(0).complains_about_nothing();
    let terminal = Terminal::open();
    let launch = Home::new().trustctl(check).args(["--start-timeout", "1h"]);
    launch.env("TERM", "xterm").stderr(terminal.end()).run().exits_with(0);
    let shown = terminal.shown();
    for words in ["waiting for the server to accept connections on port ", ": 1 s of 3600 s"] {
        assert!(shown.contains(words), "{shown:?}");
    }
}

fn a_server_that_does_not_end_is_waited_for_in_words_and_killed() {
    let command = format!("trap '' TERM; {}", command("right"));
    let check = ["check", "--command", &command, "--case", "framing/2", "--json"];
    let files = Files::new();
    let reports = ["a.xml", "a.html"].map(|name| files.path(name));
    let launch = Home::new().trustctl(check).args(["--stop-timeout", "100ms"]);
    let launch = launch.args(["--junit", &reports[0], "--html", &reports[1]]);
    let killed = launch.run().exits_with(0);
    for report in ["a.xml", "a.html"].map(|name| files.read(name)) {
        let words = "The server had not ended after SIGTERM, and was killed.";
        assert!(report.contains(words), "{report}");
    }
    let words = "the server had not ended 0.1 s after SIGTERM (--stop-timeout) and was killed";
    let killed = killed.complains_about(&[words]).complains_in_one_line();
    assert!(json::read(killed.text()).server.was_killed);

    let terminal = Terminal::open();
    let launch = Home::new().trustctl(check).args(["--stop-timeout", "1.2"]);
    launch.env("TERM", "xterm").stderr(terminal.end()).run().exits_with(0);
    let shown = terminal.shown();
    let words = "waiting for the server to end after SIGTERM: 1 s of 1.2 s";
    assert!(shown.contains(words), "{shown:?}");

    // Ctrl-C ends the wait.
    let launch = Home::new().trustctl(check).args(["--stop-timeout", "1h"]);
    let terminal = Terminal::open();
    let running = launch.env("TERM", "xterm").stderr(terminal.end()).start();
    kernel::wait_until("the wait for the end", || terminal.has_shown("after SIGTERM: 1 s"));
    running.signal(Signal::INT);
    let finished = running.wait().exits_with(130);
    assert!(json::read(finished.text()).server.was_killed);
    assert!(terminal.shown().contains("the server had not ended when SIGINT came and was killed"));
}

/// The server dies of framing/6 and framing/7 and is restarted, and everything else is tried.
#[track_caller]
fn dies(command: &str, how: &str) {
    // Waiting for the dead server even once would be too late.
    let flags = ["check", "--command", command, "--patience=60", "--json"];
    let cases = ["--case", "framing/2,framing/6,framing/7,partial/*,resources/*"];
    let finished =
        Home::new().trustctl(flags).args(cases).start().wait_for(WHOLE_CHECK).exits_with(1);
    let report = json::read(finished.text());
    assert_eq!((report.state, report.detail), (RunState::Complete, None));
    assert!(report.causes.is_empty(), "a death is no limit: {:?}", report.causes);
    let deaths = ["framing/6", "framing/7"];
    // Two cases that end it at the same time may both show their words there.
    assert!(report.deaths.iter().all(|death| death.how.starts_with(how)), "{:?}", report.deaths);
    let during = report.deaths.iter().flat_map(|death| death.during.split(", "));
    assert!(deaths.iter().all(|id| during.clone().any(|during| during == *id)));
    for case in &report.cases {
        let id = case.about.id.as_str();
        let got = case.got.as_deref().unwrap_or_default();
        match case.verdict {
            VerdictName::Fail if id == "resources/1" => {
                let expected = format!("it died during framing/7: {how}");
                assert!(got.contains(&expected), "{got}");
            }
            VerdictName::Fail => {
                assert!(deaths.contains(&id), "{id}: {got}");
                let expected = format!("the server died, {how}; sent last: #1 -> ");
                assert!(got.starts_with(&expected), "{got}");
            }
            _ => assert!(!deaths.contains(&id) && id != "resources/1", "{id}: {:?}", case.said),
        }
        // The clients of the resource cases also have a length refused, which ends the server once
        // more.
        let may_be_skipped = id == "partial/11" || id.starts_with("resources/");
        let is_tried = case.verdict != VerdictName::Skipped || may_be_skipped;
        assert!(is_tried, "{id}: {:?}", case.said);
    }
}

fn a_server_that_dies_is_started_again_and_its_case_is_named() {
    dies(&command("dies"), &format!("exit code {DEATH_CODE}; its stderr: {LAST_WORDS}"));
}

fn a_death_behind_a_shell_is_noticed() {
    let server = command("dies").replace("exec ", "");
    let how = format!("its listening process is gone; its stderr: {LAST_WORDS}");
    dies(&format!("{server}; sleep 1000"), &how);
}

fn a_server_that_cannot_be_started_again_ends_the_run() {
    let files = Files::new();
    let marker = files.path("started");
    let once = format!("test -e '{marker}' && exit 9; touch '{marker}'; {}", command("dies"));
    let flags = ["check", "--command", &once, "--patience=60", "--jobs=1", "--json"];
    let cases = ["--case", "framing/2,framing/6,framing/7,partial/*"];
    let finished =
        Home::new().trustctl(flags).args(cases).start().wait_for(WHOLE_CHECK).exits_with(1);
    let report = json::read(finished.text());
    assert_eq!(report.state, RunState::ServerDied);
    assert_eq!(report.detail.as_deref(), Some("framing/6"));
    for case in &report.cases {
        let expected = match case.about.id.as_str() {
            "framing/2" => VerdictName::Pass,
            "framing/6" => VerdictName::Fail,
            _ => VerdictName::Skipped,
        };
        assert_eq!(case.verdict, expected, "{}: {:?}", case.about.id, case.got);
    }
}

fn a_process_is_watched_by_its_number() {
    let server = Server::start(["--mode", "framed", "--timeout", "2"]);
    let (address, pid) = (server.address().to_string(), server.pid().to_string());
    let flags = ["check", &address, "--pid", &pid, "--case", "framing/1,resources/2,resources/5"];
    let home = Home::new();
    let finished =
        home.trustctl(flags).args(["--json"]).start().wait_for(WHOLE_CHECK).exits_with(0);
    let report = json::read(finished.text());
    assert_eq!((report.counts.pass, report.server.pid), (3, Some(server.pid())));
    assert_eq!(report.server.target, Some(address));
    // The check did not start it, so it goes on.
    server.serves_the_next();
    server.stop();
}

fn another_process_says_nothing() {
    let (server, other) =
        (Server::start(["--mode", "framed"]), Server::start(["--mode", "framed"]));
    let (address, pid) = (server.address().to_string(), other.pid().to_string());
    let flags = ["check", &address, "--pid", &pid, "--case", "framing/1,resources/2", "--json"];
    let finished = Home::new().trustctl(flags).run().exits_with(0);
    let report = json::read(finished.text());
    let [first, second] = &report.cases[..] else { panic!("two cases") };
    assert_eq!((first.verdict, second.verdict), (VerdictName::Pass, VerdictName::Skipped));
    let why = format!("process {pid} and its children do not listen on port {}", server.port());
    assert!(second.said.as_deref().is_some_and(|said| said.starts_with(&why)), "{:?}", second.said);
    server.stop();
    other.stop();
}

fn without_a_process_its_cases_are_skipped() {
    let server = Server::start(["--mode", "framed"]);
    let address = server.address().to_string();
    let flags = ["check", &address, "--case", "framing/1,resources/*"];
    let finished = Home::new().trustctl(flags).run().exits_with(0);
    let ids: Vec<&str> =
        cases::all().filter_map(|case| case.id.strip_prefix("resources/")).collect();
    let skipped = format!(
        "skipped       resources/{}\n              because needs --pid or --command\n",
        ids.join(", ")
    );
    assert!(finished.text().contains(&skipped), "{}", finished.text());
    let finished =
        Home::new().trustctl(["check", &address, "--case", "resources/*"]).run().exits_with(1);
    assert!(finished.text().contains("nothing was tried"), "{}", finished.text());
    let gone = Home::new().trustctl(["check", &address, "--pid", "4194305"]).run().exits_with(64);
    gone.complains_about(&["--pid 4194305: No such process"]).complains_in_one_line();
    server.stop();
}
