//! `trustctl load merge` as a command: what it prints and writes, how it ends, and where `load`
//! ends and it begins.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::process::Signal;
use trust_load::hdr_log::{End, Header, Writer};
use trust_load::merge::json::{FailedMerge, MergeDocument, MergedMessages};
use trust_load::report::fields::{Loop, Rate};
use trust_load::shard::Shard;
use trust_load::summary::{Cause, Counts, Errors};
use trust_load::timings::Timings;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::document;
use trust_testkit::program::{Finished, Home};

/// A home, and logs of shards next to it.
struct Logs {
    home: Home,
}

impl Logs {
    fn new() -> Logs {
        Logs { home: Home::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.elsewhere(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes the log of a shard in which every message took this many nanoseconds.
    fn shard(&self, index: u32, of: u32, latency: u64, messages: u64) -> String {
        let name = format!("shard-{index}.hlog");
        let began = jiff::Timestamp::constant(1_796_040_000, 500_000);
        let header = Header {
            shard: Shard::new(index, of),
            start_at: Some(jiff::Timestamp::constant(1_796_040_000, 0)),
            began: began + Duration::from_millis(2) * index,
            target: "echo.example:9900".into(),
            is_open_loop: true,
            rate: Some(10.0),
            seed: Some(1),
            is_seed_given: true,
            ..Header::default()
        };
        let file = fs::File::create(self.path(&name)).expect("a log can be made");
        let mut writer = Writer::new(file, &header).expect("it can be written");
        let (mut latencies, mut services) = (Timings::default(), Timings::default());
        latencies.add_many(latency, messages);
        services.add_many(latency / 2, messages);
        let mut errors = Errors::default();
        errors.add(Cause::Timeout);
        let length = Duration::from_secs(1);
        let written = writer.interval(Duration::ZERO, length, [&latencies, &services]);
        written.expect("it can be written");
        let end = End {
            took_ns: 1_000_000_000,
            counts: Counts {
                sent: messages + 1,
                answered: messages,
                answered_in_time: messages,
                failed: 1,
                ..Counts::default()
            },
            achieved_rate: messages as f64,
            errors,
            ..End::default()
        };
        writer.finish(&end).expect("it can be written");
        self.text(&name)
    }

    fn merge(&self, args: &[&str]) -> Finished {
        self.home.trustctl([&["load", "merge"], args].concat()).run()
    }
}

fn merged(finished: &Finished) -> MergeDocument {
    document::read(finished.text(), "load-merge")
}

#[test]
fn a_budget_is_judged_by_all_logs_together() {
    let logs = Logs::new();
    let (first, second) = (logs.shard(0, 2, 1_000_000, 3), logs.shard(1, 2, 3_000_000, 1));
    let judged = |budgets| logs.merge(&["--fail-if", budgets, &first, &second]);
    // A rate and a percentile that neither of them has alone.
    let kept = judged("rate<3.9,p75>1.1ms").exits_with(0).complains_about_nothing();
    let text = kept.text();
    assert!(text.contains("\nbudget    kept: fail if p75>1.1ms, was 1.0"), "{text}");
    let missed = judged("p90>2ms,errors>2").exits_with(1).complains_about_nothing();
    let text = missed.text();
    assert!(text.contains("\nbudget    missed: fail if p90>2ms, was 3.0"), "{text}");
    assert!(text.contains("\nbudget    kept: fail if errors>2, was 2\n"), "{text}");
    let missed = logs.merge(&["--json", "--fail-if", "p90>2ms", &first, &second]).exits_with(1);
    let [budget] = &merged(&missed).budgets[..] else { panic!("one budget") };
    assert_eq!((&*budget.budget, budget.is_missed), ("p90>2ms", true));
    assert!(budget.measured.starts_with("3.0"), "{}", budget.measured);
    let refused = judged("connections<2").exits_with(64);
    refused.complains_about(&["--fail-if", "connections<2", "logs do not tell of connections"]);
    judged("p99").exits_with(64).complains_about(&["--fail-if", "no comparison"]);
}

#[test]
fn shards_that_are_all_there_are_one_result() {
    let logs = Logs::new();
    let (first, second) = (logs.shard(0, 2, 1_000_000, 3), logs.shard(1, 2, 3_000_000, 1));
    let finished = logs.merge(&["--json", &second, &first]).exits_with(0).complains_about_nothing();
    let document = merged(&finished);
    assert_eq!((document.exit, document.whole), (0, true));
    assert_eq!((document.gaps.len(), document.client.limits.len()), (0, 0));
    assert_eq!((document.unit.as_deref(), document.significant_digits), (Some("ns"), Some(3)));
    assert_eq!(document.target.as_deref(), Some("echo.example:9900"));
    assert_eq!((document.r#loop, document.duration_ns), (Some(Loop::Open), Some(1_000_000_000)));
    let rate = Rate { requested_per_second: Some(20.0), achieved_per_second: 4.0 };
    assert_eq!(document.rate, Some(rate));
    let messages = MergedMessages {
        sent: 6,
        answered: 4,
        answered_in_time: 4,
        slow: 0,
        failed: 2,
        unsent: 0,
        outstanding: 0,
    };
    assert_eq!(document.messages, Some(messages));
    let errors = document.errors.expect("they are known");
    assert_eq!(
        (errors.total, errors.by_cause[&Cause::Timeout], errors.by_cause[&Cause::Refused]),
        (2, 2, 0)
    );
    assert_eq!(document.start_skew_ns, Some(2_000_000));
    let latency = document.latency.expect("the unit is known");
    assert_eq!(latency.count, 4);
    let is_in = |range: Range<u64>, ns: Option<u64>| ns.is_some_and(|ns| range.contains(&ns));
    assert!(is_in(1_000_000..1_001_000, latency.p75_ns), "{latency:?}");
    assert!(is_in(3_000_000..3_003_000, latency.p90_ns), "{latency:?}");
    let service = document.service.expect("the unit is known");
    assert!(is_in(1_500_000..1_502_000, service.max_ns), "{service:?}");
    assert!(document.values.is_none());
    let [one, other] = &document.logs[..] else { panic!("two logs") };
    assert_eq!(
        (&*one.file, one.shard.as_deref(), one.late_ns),
        (&*second, Some("1/2"), Some(2_500_000))
    );
    assert_eq!(
        (&*other.file, other.shard.as_deref(), other.late_ns),
        (&*first, Some("0/2"), Some(500_000))
    );
    assert_eq!(
        one.began.map(|time| time.to_string()).as_deref(),
        Some("2026-11-30T12:00:00.0025Z")
    );
    assert_eq!((one.interval_lines, one.achieved_per_second), (2, Some(1.0)));
    assert_eq!(other.messages.as_ref().map(|messages| messages.answered), Some(3));
}

#[test]
fn a_shard_that_is_missing_or_was_killed_is_named_and_ends_with_1() {
    let logs = Logs::new();
    let (first, second) = (logs.shard(0, 3, 1_000_000, 3), logs.shard(1, 3, 3_000_000, 1));
    let whole = fs::read_to_string(&second).expect("it was written");
    let end = whole.find("#[trustctl end").expect("it has an end");
    fs::write(&second, &whole[..end]).expect("it can be written");
    let finished = logs.merge(&[&first, &second]).exits_with(1).complains_about_nothing();
    let text = finished.text();
    assert!(text.contains("\nincomplete: shard 2 of 3 is missing\n"), "{text}");
    assert!(text.contains("shard-1.hlog' has no end: was its run killed"), "{text}");
    assert!(text.contains("p99.9 ") && text.contains("3.00 ms"), "the result is told: {text}");
    fs::write(&second, &whole[..end - 10]).expect("it can be written");
    let finished = logs.merge(&["--json", &first, &second]).exits_with(1);
    let document = merged(&finished);
    assert!(!document.whole && document.exit == 1);
    assert!(document.gaps[1].contains("shard-1.hlog' is cut off in line 7"), "{:?}", document.gaps);
    assert_eq!(document.logs[1].interval_lines, 1, "what is whole is read");
    assert!(document.logs[1].achieved_per_second.is_none() && document.logs[1].messages.is_none());
}

#[test]
fn what_is_no_log_is_refused_with_its_line_and_one_document() {
    let logs = Logs::new();
    let good = logs.shard(0, 2, 1_000_000, 3);
    let bad = logs.text("bad.hlog");
    let text = fs::read_to_string(&good).expect("it was written");
    for (content, problem) in [
        ("hello\n".to_owned(), "line 1: this is no HDR histogram log"),
        (String::new(), "line 1: the file is empty"),
        (text.replacen("HISTF", "HISTX", 1), "line 6: what should be a histogram is none"),
    ] {
        fs::write(&bad, content).expect("it can be written");
        let refused = logs.merge(&[&bad]).exits_with(65);
        refused.prints("").complains_about(&["bad.hlog", problem]).complains_in_one_line();
        let refused = logs.merge(&["--json", &bad]).exits_with(65);
        let document: FailedMerge = document::read(refused.text(), "load-merge");
        assert_eq!(document.exit, 65);
        assert!(document.error.ends_with(problem), "{}", document.error);
    }
    // A rate so low that no time corresponds to it. That must not count as an internal error.
    let end = text.find("\"achieved_rate\":").expect("it has an end") + "\"achieved_rate\":".len();
    let digits = text[end..].find(',').expect("more follows");
    fs::write(&bad, [&text[..end], "1e-300", &text[end + digits..]].concat()).expect("written");
    logs.merge(&["--fail-if", "rate<1", &bad]).exits_with(1).complains_about_nothing();
    let twin = logs.text("twin.hlog");
    fs::copy(&good, &twin).expect("it can be copied");
    let refused = logs.merge(&[&good, &twin]).exits_with(65);
    refused.complains_about(&["shard-0.hlog", "twin.hlog", "are both shard 0/2"]);
}

#[test]
fn a_log_of_another_tool_has_no_unit() {
    let logs = Logs::new();
    // Three values with two digits from 20,000 up, encoded by another implementation.
    let line = "0.5,1.0,2.7,HISTFAAAACh4nJNpmSzMwMDAygABTBDKT4GBgdnNYMcCBvsPEBFBlp1MTABwkgWO\n";
    let other = logs.text("other.hlog");
    fs::write(&other, format!("#[Histogram log format version 1.2]\n{line}")).expect("written");
    let finished = logs.merge(&["--json", &other]).exits_with(0);
    let document = merged(&finished);
    let values = document.values.expect("it has values");
    assert_eq!((values.count, document.significant_digits), (3, Some(2)));
    assert_eq!((document.unit, document.latency.is_none(), document.messages), (None, true, None));
    let ours = logs.shard(0, 1, 1_000_000, 3);
    logs.merge(&[&ours, &other]).exits_with(65).complains_about(&["does not tell its unit"]);
}

#[test]
fn a_file_stands_once_in_the_command_and_is_not_written_over() {
    let logs = Logs::new();
    let good = logs.shard(0, 1, 1_000_000, 3);
    let before = fs::read(&good).expect("it was written");
    logs.merge(&[&good, &good]).exits_with(64).complains_about(&["is given twice"]);
    let link = logs.text("link.hlog");
    std::os::unix::fs::symlink(&good, &link).expect("a link can be made");
    logs.merge(&[&good, &link]).exits_with(64).complains_about(&["are the same file"]);
    for output in [&good, &link] {
        let refused = logs.merge(&["--hdr-log", output, &good]).exits_with(64);
        refused.complains_about(&["--hdr-log", "is one of the logs that are merged"]);
    }
    assert_eq!(fs::read(&good).expect("it is there"), before);
    let refused = logs.merge(&["--hdr-log", "/nowhere/x.hlog", &good]).exits_with(73);
    refused.complains_about(&["--hdr-log", "cannot create '/nowhere/x.hlog'"]);
    logs.merge(&["/nowhere/x.hlog"]).exits_with(74).complains_about(&["'/nowhere/x.hlog'"]);
    logs.merge(&["/tmp"]).exits_with(74).complains_about(&["cannot read '/tmp'"]);
}

#[test]
fn the_merged_log_says_what_the_logs_said() {
    let logs = Logs::new();
    let (first, second) = (logs.shard(0, 2, 1_000_000, 3), logs.shard(1, 2, 3_000_000, 1));
    let all = logs.text("all.hlog");
    let both = logs.merge(&["--json", "--hdr-log", &all, &first, &second]).exits_with(0);
    let again = logs.merge(&["--json", &all]).exits_with(0);
    let (both, again) = (merged(&both), merged(&again));
    assert_eq!(both.latency, again.latency);
    assert_eq!(both.service, again.service);
    assert_eq!((both.messages, both.errors), (again.messages, again.errors));
    assert_eq!(both.rate, again.rate);
    assert_eq!((again.logs[0].interval_lines, again.logs[0].shard.as_deref()), (4, None));
}

#[test]
fn settings_come_from_the_file_and_variables_of_their_own() {
    let logs = Logs::new();
    let good = logs.shard(0, 1, 1_000_000, 3);
    let merge = || logs.home.trustctl(["load", "merge", &good]);
    merged(&merge().env("TRUST_LOAD_MERGE_JSON", "true").run().exits_with(0));
    let refused = merge().env("TRUST_LOAD_MERGE_JSN", "true").run().exits_with(64);
    refused
        .complains_about(&["unknown variable 'TRUST_LOAD_MERGE_JSN'", "TRUST_LOAD_MERGE_HDR_LOG"]);
    // They are not settings of `load`, nor are those of `load` theirs.
    let load = logs.home.trustctl(["load"]).env("TRUST_LOAD_MERGE_JSON", "true").run();
    load.exits_with(64).complains_about(&["missing server: expected HOST:PORT"]);
    let load = logs.home.trustctl(["load"]).env("TRUST_LOAD_PRT", "1").run();
    load.exits_with(64).complains_about(&["unknown variable 'TRUST_LOAD_PRT'"]);
    merge().env("TRUST_LOAD_PORT", "none").run().exits_with(0);
    logs.home.configure("[load-merge]\njson = true\n[load]\nclients = 3\n");
    merged(&merge().run().exits_with(0));
    let shown = logs.home.trustctl(["config", "show"]).run().exits_with(0);
    assert!(shown.text().contains("load-merge.json: true (file)"), "{}", shown.text());
}

#[test]
fn load_and_load_merge_are_told_apart() {
    let logs = Logs::new();
    let run = |args: &[&str]| logs.home.trustctl(args).run();
    let help = run(&["load", "merge", "--help"]).exits_with(0);
    assert!(
        help.text().contains("Usage: trustctl load merge [OPTIONS] <FILE>..."),
        "{}",
        help.text()
    );
    let help = run(&["load", "--help"]).exits_with(0);
    assert!(
        help.text().contains("--port") && help.text().contains("\n  merge  "),
        "{}",
        help.text()
    );
    run(&["load", "merge"]).exits_with(64).complains_about(&["missing argument: FILE"]);
    let refused = run(&["load", "--port", "1", "merge", "x"]).exits_with(64);
    refused.complains_about(&["--port cannot be used before 'merge'"]).complains_in_one_line();
    let refused = run(&["load", "mrge"]).exits_with(64);
    refused.complains_about(&["server 'mrge' has no port"]);
    // A host with that name is not a command.
    let refused = run(&["load", "--host", "merge"]).exits_with(64);
    refused.complains_about(&["--host 'merge' has no port", "error"]);
    let front = logs.home.echo_load_test(["merge", "x"]).run().exits_with(64);
    front.complains_about(&["invalid server 'merge': invalid port 'x'"]);
}

#[test]
fn a_signal_ends_waiting_for_a_pipe_too() {
    let logs = Logs::new();
    let good = logs.shard(0, 1, 1_000_000, 3);
    let text = fs::read_to_string(&good).expect("it was written");
    let end = text.find("#[trustctl end").expect("it has an end");
    let begin = text.find("\n0.000,").expect("it has an interval") + 1;
    // More than a pipe holds; after that it waits for the rest.
    const WRITTEN: usize = 1 << 20;
    let many = text[begin..end].repeat(WRITTEN / (end - begin));
    let args = ["load", "merge", "--json", "/dev/stdin"];
    let (running, mut input) = logs.home.trustctl(args).start_with_input();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        input.write_all(&text.as_bytes()[..end]).expect("it is read");
        input.write_all(many.as_bytes()).expect("it is read");
        tell.send(input).expect("the test waits for it");
    });
    let input = told.recv_timeout(STEP_DEADLINE).expect("it reads a mebibyte");
    let deadline = Instant::now() + STEP_DEADLINE;
    while ioctl_fionread(&input).expect("a pipe reports how much is in it") > 0 {
        assert!(Instant::now() < deadline, "it reads all of it");
        thread::yield_now();
    }
    running.signal(Signal::INT);
    let finished = running.wait().exits_with(130);
    let document: FailedMerge = document::read(finished.text(), "load-merge");
    assert_eq!((document.exit, document.error.as_str()), (130, "stopped by SIGINT"));
    drop(input);
}
