//! Settings that conflict, and those of one layer against those of another.

use rustix::process::Signal;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::model::Model;
use trust_testkit::program::Home;
use trust_testkit::server::{NO_FLAGS, Server};

/// Contents of the file, in `[load]` unless stated otherwise, and what is said about them.
const MISTAKES: [(&str, &str); 9] = [
    ("fail-if = \"p99\"", "fail-if = 'p99' in [load]: 'p99': no comparison"),
    ("find-rate = \"p99>5ms\"", "a higher rate takes longer"),
    ("json = true\ncsv = true", "json in [load] cannot be used with"),
    (
        "framing = \"u8be\"\nsize = 300",
        "size in [load] 300: framing u8 has payloads of at most 255",
    ),
    ("rate = 5\nthink = 1", "think in [load] cannot be used with"),
    ("arrivals = \"poisson\"", "arrivals in [load] goes only with --rate"),
    ("framing = \"line\"\noffset = 2", "framing in [load] 'line' cannot be used with"),
    ("[check]\ncase = \"framing/1,nosuch\"", "'nosuch' names no case"),
    (
        "[echo-server]\nmode = \"auto\"\nmax-frame = 16777216",
        "max-frame in [echo-server] '16777216' cannot be used with mode auto",
    ),
];

#[test]
fn config_show_refuses_what_the_command_refuses() {
    let home = Home::new();
    for (text, words) in MISTAKES {
        let (command, file) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((command, _)) => (command, text.to_owned()),
            None => ("load", format!("[load]\n{text}")),
        };
        home.configure(&file);
        let shown = home.trustctl(["config", "show"]).run().exits_with(78).complains_in_one_line();
        let shown = shown.complains_about(&["config.toml:", words]);
        let server = if command == "check" { "127.0.0.1:1" } else { "--port=1" };
        let refused = home.trustctl([command, server]).run().exits_with(78);
        assert_eq!(refused.stderr, shown.stderr, "{text}");
    }
}

#[test]
fn a_bad_list_of_budgets_in_the_file_is_told_whatever_runs() {
    let home = Home::new();
    for table in ["load", "load-merge"] {
        home.configure(&format!("[{table}]\nfail-if = \"p99>5\"\n"));
        let words = ["config.toml:2: fail-if = 'p99>5'", "without a unit"];
        let refused = home.trustctl(["log", "demo", "x"]).run().exits_with(78);
        refused.complains_about(&words).complains_in_one_line();
    }
}

#[test]
fn mistakes_in_two_places_are_those_of_the_command_line() {
    let home = Home::new();
    home.configure("[load]\nframing = \"u8be\"\n");
    let load = home.trustctl(["load", "--port", "1", "--size", "300"]).run().exits_with(64);
    load.complains_about(&["--size 300: framing u8"]).complains_in_one_line();
    let shown = home.trustctl(["config", "show"]).env("TRUST_LOAD_SIZE", "300").run();
    shown
        .exits_with(64)
        .complains_about(&["TRUST_LOAD_SIZE 300: framing u8"])
        .complains_in_one_line();
}

#[test]
fn a_flag_beats_a_setting_of_the_file_that_it_cannot_be_used_with() {
    let (home, server) = (Home::new(), Server::start(NO_FLAGS));
    let port = server.port().to_string();
    let load = |file: &str, flags: &[&str]| {
        home.configure(&format!("[load]\n{file}\n"));
        let finished = home.trustctl(["load", "--port", &port]).args(flags).run().exits_with(0);
        finished.complains_about_nothing().text().to_owned()
    };
    let table = load("rate = 1000\narrivals = \"poisson\"\nclients = 2", &["--think", "0.001"]);
    assert!(table.contains("closed: an answer lets the next message go"), "{table}");
    let table = load("think = 1", &["--rate", "1000", "--messages", "5"]);
    assert!(table.contains("open: messages are due at fixed times"), "{table}");
    let csv = load("json = true", &["--csv", "--messages", "5"]);
    assert!(csv.starts_with("start_seconds,"), "{csv}");
    let json = load("csv = true", &["--json", "--messages", "5"]);
    assert!(json.starts_with('{'), "{json}");
    let table = load("json = true", &["--json=false", "--messages", "5"]);
    assert!(table.starts_with("PASSED"), "{table}");
    let searched = load("find-rate = \"p99<5s\"", &["--messages", "5", "--concurrency", "1"]);
    assert!(searched.starts_with("PASSED") && !searched.contains("search"), "{searched}");
    server.stop();

    for file in ["workers = 4\nbusy-poll = 5", "inetd = true"] {
        let home = Home::new();
        home.configure(&format!("[echo-server]\n{file}\n"));
        let args = ["echo-server", "--port", "0", "--model", "iterative"];
        let launch = home.trustctl(args);
        let server = Server::start_as(Model::Iterative, home, launch);
        assert_eq!(server.start_event().count("workers"), 1);
        server.serves_the_next();
        server.stop();
    }
}

#[test]
fn without_a_home_there_is_no_file_and_no_log_and_every_command_works() {
    let home = Home::new();
    let homeless =
        |args: &[&str]| home.trustctl(args).without_env("HOME").without_env("TRUST_HOME");
    let warning =
        "warning: no log file: HOME is not set, and neither --log-file nor --trust-home is";
    for model in [Model::Event, Model::Iterative, Model::Process] {
        let server = homeless(&["echo-server", "--host=127.0.0.1"]).args(model.flags()).start();
        let start = server.wait_for_event("server_start", |_| true, STEP_DEADLINE);
        let port = start.count("port").to_string();
        let commands: [&[&str]; 5] = [
            &["echo-client", "127.0.0.1", &port, "hi"],
            &["load", "--port", &port, "--messages", "2"],
            &["check", "127.0.0.1", &port, "--case", "framing/1"],
            &["log", "demo", "x"],
            &["config", "show"],
        ];
        for command in commands {
            let finished = homeless(command).run().exits_with(0);
            finished.complains_about(&[warning]).complains_in_one_line();
            let finished = homeless(command).args(["--log-file=none"]).run().exits_with(0);
            finished.complains_about_nothing();
        }
        server.signal(Signal::TERM);
        server.wait().exits_with(0).complains_about(&[warning]).complains_in_one_line();
    }
    let shown = homeless(&["config", "show"]).run().exits_with(0);
    assert!(shown.text().contains("\ntrust_home: (unset)\nconfig_file: (not there)\n"));
    assert!(home.is_untouched());
}
