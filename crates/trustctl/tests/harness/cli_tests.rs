//! What every command does: messages, exit codes, settings, events, signals.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use trust_testkit::STEP_DEADLINE;
use trust_testkit::document;
use trust_testkit::event::{self, Event};
use trust_testkit::peer::frame;
use trust_testkit::program::{self, Finished, Home, Launch};
use trust_testkit::server::Server;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    test_help,
    test_version,
    test_unknown_cmd,
    test_missing_args,
    test_env_override,
    test_units,
    test_flag_beats_env,
    test_send_proxy,
    test_oversize_reject,
    test_stdout_logs,
    test_file_logs,
    test_request_id_override,
    test_auto_request_id,
    test_sigint_exit_130,
];

/// Commands that `--help` and the message about an unknown command must list.
const COMMANDS: [&str; 6] = ["echo-server", "echo-client", "load", "config", "log", "hold"];

fn test_help() {
    let home = Home::new();
    let help = home.trustctl(["--help"]).run().exits_with(0).complains_about_nothing();
    let exit_codes = ["0", "64", "69", "76", "130", "143"];
    for word in COMMANDS.into_iter().chain(["--trust-home", "--request-id"]).chain(exit_codes) {
        explains(&help, word);
    }
    let help = home.trustctl(["echo-server", "--help"]).run().exits_with(0);
    assert!(help.text().contains("A DURATION has a unit, ns, us, ms, s, m or h"), "units");
    for flag in ["--port", "--mode", "--max-frame", "--timeout", "--drain-timeout"] {
        explains(&help, flag);
    }
    assert!(home.is_untouched(), "--help made something");
}

fn test_version() {
    let home = Home::new();
    for launch in [
        home.trustctl(["--version"]),
        home.echo_client(["--version"]),
        home.echo_load_test(["--version"]),
    ] {
        let version = launch.run().exits_with(0).complains_about_nothing();
        let text = version.text();
        assert!(text.trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{text:?}");
        assert_eq!(text.lines().count(), 1, "{text:?}");
    }
    assert!(home.is_untouched(), "--version made something");
}

fn test_unknown_cmd() {
    let home = Home::new();
    let refused = home.trustctl(["ehco-server", "--port", "0"]).run().exits_with(64);
    let refused = refused.complains_about(&["unknown", "ehco-server", "--help"]);
    let finish = refused.complains_about(&COMMANDS).events();
    event::check_run(&finish);
    assert_eq!(event::only(&finish, "error").count("exit"), 64);
    assert_eq!(event::only(&finish, "cmd_finish").count("exit"), 64);
}

fn test_missing_args() {
    let home = Home::new();
    let refused = home.trustctl(["hold"]).run().exits_with(64);
    refused.complains_about(&["missing", "--seconds"]).complains_in_one_line();
    let refused = home.trustctl(["echo-server"]).run().exits_with(64);
    refused.complains_about(&["missing required flag: --port"]).complains_in_one_line();
    let refused = home.echo_client(["localhost"]).run().exits_with(64);
    refused.complains_in_one_line();
}

fn test_env_override() {
    let home = Home::new();
    home.configure("log-level = \"warn\"\n[echo-server]\nport = 9901\ntimeout = 7\n");
    let shown = config(home.trustctl(["config", "show"]).env("TRUST_ECHO_SERVER_PORT", "9902"));
    shown.has("trust_home", &home.path().display().to_string(), "environment");
    shown.has("echo-server.port", "9902", "environment");
    shown.has("echo-server.timeout", "7", "file");
    shown.has("echo-server.frame-timeout", "30s", "default");
    let shown = home.trustctl(["config", "show", "--json"]).run().exits_with(0);
    let shown: Value = document::read(shown.text(), "config-show");
    assert_eq!(shown["echo-server.timeout"], json!({ "value": "7", "source": "file" }));
    assert_eq!(shown["request_id"]["source"], "generated");
    assert_eq!(shown["load.port"], json!({ "value": null, "source": "unset" }));

    let refused = home.trustctl(["config", "show"]).env("TRUST_ECHO_SERVER_PORT", "65536");
    let refused = refused.run().exits_with(64);
    refused.complains_about(&["TRUST_ECHO_SERVER_PORT", "65536"]).complains_in_one_line();
}

fn test_units() {
    let home = Home::new();
    home.configure("[echo-server]\ntimeout = \"500ms\"\nmax-frame = '64KiB'\n[load]\nrate = 2.5\n");
    let launch = home.trustctl(["config", "show"]).env("TRUST_LOAD_SIZE", "1k-1.5Ki");
    let shown = config(launch);
    shown.has("echo-server.timeout", "500ms", "file");
    shown.has("echo-server.max-frame", "64KiB", "file");
    shown.has("load.rate", "2.5", "file");
    shown.has("load.size", "1k-1.5Ki", "environment");
    home.trustctl(["hold", "--seconds", "1000000ns"]).run().exits_with(0);

    let refused = [
        ("999us", "a time from 1ms to 277777h, or 0 (at once)"),
        ("277778h", "a time from 1ms to 277777h, or 0 (at once)"),
        ("99999999999999999999999999999999999999999h", "a time from 1ms to 277777h"),
        ("1d", "with ns, us, ms, s, m or h as in 500ms, or in seconds as 2.5"),
    ];
    for (time, allowed) in refused {
        let refused = home.trustctl(["hold", "--seconds", time]).run().exits_with(64);
        let words = [&*format!("invalid value '{time}' for --seconds"), "expected ", allowed];
        refused.complains_about(&words).complains_in_one_line();
    }
    for size in ["64K", "0.5B", "5Gi", "99999999999999999999999999999999999999999Ki"] {
        let client = home.echo_client(["localhost:1", "--payload-size", size]);
        let words = [
            &*format!("invalid value '{size}' for --payload-size"),
            "from 0 to 4294967295 bytes",
            "64KiB",
        ];
        client.run().exits_with(64).complains_about(&words).complains_in_one_line();
    }
    home.configure("[load]\nrate = \"11M\"\n");
    let refused = home.trustctl(["config", "show"]).run().exits_with(78);
    let words = ["config.toml:2: rate = '11M' in [load]", "from 0.001 to 10000000, with k or M"];
    refused.complains_about(&words).complains_in_one_line();
}

fn test_flag_beats_env() {
    let home = Home::new();
    let flag = home.elsewhere("from-the-flag");
    let flag_text = flag.display().to_string();
    let before = ["--trust-home", &flag_text, "config", "show"];
    let after = ["config", "show", "--trust-home", &flag_text];
    for args in [before, after] {
        config(home.trustctl(args)).has("trust_home", &flag_text, "flag");
    }
    assert!(flag.join("logs/trustctl.log").is_file(), "no log in the flag's home");
    assert!(!home.path().exists(), "the environment's home was made all the same");
}

fn test_send_proxy() {
    let home = Home::new();
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x12\x67";
    let (header, server) = behind_header(v2.len() + 2, |server| {
        let client = home.echo_client([&server.to_string(), "hello"]);
        let client = client.env("TRUST_ECHO_CLIENT_SEND_PROXY", "v2=203.0.113.7:4711");
        client.run().exits_with(0).complains_about_nothing().prints("hello\n");
    });
    assert_eq!(header, [&v2[..], &server.port().to_be_bytes()].concat());

    let unknown = "PROXY UNKNOWN\r\n";
    let (header, _) = behind_header(unknown.len(), |server| {
        let client = home.echo_client([&server.to_string(), "hello", "--send-proxy", "v1=unknown"]);
        client.run().exits_with(0).complains_about_nothing().prints("hello\n");
    });
    assert_eq!(header, unknown.as_bytes());

    let server = Server::start(["--proxy-protocol"]);
    let address = server.address().to_string();
    for flag in ["v1=[2001:db8::1]:99", "v2=[2001:db8::1]:99"] {
        let client = home.echo_client([&address, "hello", "--send-proxy", flag]).run();
        client.exits_with(0).complains_about_nothing().prints("hello\n");
    }
    let events = server.stop();
    let connected = event::named(&events, "client_connect");
    assert_eq!(connected.len(), 2, "{events:?}");
    for connect in connected {
        assert_eq!(connect.text("peer"), "[2001:db8::1]:99", "{connect:?}");
        assert!(connect.text("proxy").starts_with("127.0.0.1:"), "{connect:?}");
    }

    let refused = home.echo_client(["127.0.0.1:7", "--send-proxy", "v1=somewhere"]).run();
    refused
        .exits_with(64)
        .complains_about(&["--send-proxy", "source 'somewhere'"])
        .complains_in_one_line();
}

/// What a client that sends the message `hello`, and has it echoed, sends before it: so many bytes.
fn behind_header(length: usize, client: impl FnOnce(SocketAddr)) -> (Vec<u8>, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let header = thread::scope(|scope| {
        let server = scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut header = vec![0; length];
            stream.read_exact(&mut header).expect("a header");
            let mut message = frame(b"hello");
            stream.read_exact(&mut message).expect("a message");
            assert_eq!(message, frame(b"hello"));
            stream.write_all(&message).expect("it is there");
            assert_eq!(stream.read(&mut message).expect("an end"), 0);
            header
        });
        client(address);
        server.join().expect("it saw what it expects")
    });
    (header, address)
}

fn test_oversize_reject() {
    let home = Home::new();
    let token = "x".repeat(2000);
    let message = "error: argument token exceeds 1024-byte limit (got 2000 bytes)\n";
    for args in [vec![&*token], vec!["log", "demo", &*token], vec!["--help", &*token]] {
        let refused = home.trustctl(args).run().exits_with(64).complains_about(&["1024"]);
        assert_eq!(refused.stderr, message);
    }
    let longest = "x".repeat(1024);
    home.trustctl(["log", "demo", &longest]).run().exits_with(0);
    home.trustctl(["log", "demo", &(longest + "x")]).run().exits_with(64);
}

fn test_stdout_logs() {
    let home = Home::new();
    let run = home.trustctl(["log", "demo", "a \"quoted\"\nmessage\u{1b}"]).run();
    let events = run.exits_with(0).complains_about_nothing().events();
    event::check_run(&events);
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(events[1].text("message"), "a \"quoted\"\nmessage\u{1b}");
    assert_eq!(event::only(&events, "cmd_finish").count("exit"), 0);

    let run = home.trustctl(["--log-level", "error", "log", "demo", "too quiet"]).run();
    run.exits_with(0).prints("");
}

fn test_file_logs() {
    let home = Home::new();
    let mut printed = home.trustctl(["log", "demo", "first"]).run().exits_with(0).stdout;
    let mut second = home.trustctl(["log", "demo", "second"]).run().exits_with(0).stdout;
    printed.append(&mut second);
    let file = std::fs::read(home.log_file()).expect("read the log file");
    assert!(file == printed, "the file is not what both runs printed");
    assert_eq!(home.logged().len(), 6);

    let other = home.elsewhere("other.log");
    let other_text = other.display().to_string();
    let elsewhere = home.trustctl(["--log-file", &other_text, "log", "demo", "third"]);
    let third = elsewhere.run().exits_with(0).events();
    assert_eq!(lines(&program::read_log(&other)), lines(&third));
    home.trustctl(["--log-file", "none", "log", "demo", "fourth"]).run().exits_with(0);
    assert_eq!(home.logged().len(), 6, "a run wrote to the default file too");
}

fn test_request_id_override() {
    let home = Home::new();
    let id = "order-66 \"ü\"";
    for args in [["--request-id", id, "log", "demo", "x"], ["log", "demo", "x", "--request-id", id]]
    {
        let events = home.trustctl(args).run().exits_with(0).events();
        event::check_run(&events);
        assert_eq!(events[0].request_id(), id);
    }
    let run = home.trustctl(["log", "demo", "x"]).env("TRUST_REQUEST_ID", "from-env").run();
    assert_eq!(run.exits_with(0).events()[0].request_id(), "from-env");
    assert_eq!(home.logged().len(), 9);
}

fn test_auto_request_id() {
    let home = Home::new();
    let run = || {
        let events = home.trustctl(["log", "demo", "x"]).run().exits_with(0).events();
        event::check_run(&events);
        events[0].request_id().to_owned()
    };
    assert_ne!(run(), run(), "two runs share an identifier");
}

fn test_sigint_exit_130() {
    let home = Home::new();
    let hold = ["hold", "--seconds", "600"];
    for launch in [home.trustctl(hold), home.trustctl_ignoring("INT", hold)] {
        let running = launch.start();
        running.wait_for_event("cmd_start", |_| true, STEP_DEADLINE);
        running.signal(Signal::INT);
        let events = running.wait().exits_with(130).events();
        event::check_run(&events);
        let received = event::only(&events, "signal_received");
        assert_eq!(received.text("signal"), "SIGINT");
        assert_eq!(received.text("action"), "shutdown");
        assert_eq!(event::only(&events, "cmd_finish").count("exit"), 130);
    }
    let running = home.trustctl(hold).start();
    running.wait_for_event("cmd_start", |_| true, STEP_DEADLINE);
    running.signal(Signal::TERM);
    running.wait().exits_with(143);
}

/// Checks that a line of the help text begins with the word, as an explanation does.
#[track_caller]
fn explains(help: &Finished, word: &str) {
    let text = help.text();
    let explained = text.lines().any(|line| line.split_whitespace().next() == Some(word));
    assert!(explained, "no line explains {word:?} in:\n{text}");
}

/// The output of `config show`.
struct Config(Finished);

#[track_caller]
fn config(launch: Launch) -> Config {
    Config(launch.run().exits_with(0).complains_about_nothing())
}

impl Config {
    /// Checks one setting's line: `trust_home: /srv/trust (flag)`.
    #[track_caller]
    fn has(&self, setting: &str, value: &str, source: &str) {
        let line = format!("{setting}: {value} ({source})");
        let text = self.0.text();
        assert!(text.lines().any(|shown| shown == line), "no line {line:?} in:\n{text}");
    }
}

fn lines(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::line).collect()
}
