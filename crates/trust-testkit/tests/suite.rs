//! The promises of a suite to its users and its tests.

use std::process::{Command, Output};

/// Runs the sample suite with these arguments, without `CI` set.
fn sample(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample-suite"));
    command.args(arguments).env_remove("CI");
    command
}

fn output(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = command.output().expect("run the sample suite");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"))
}

/// The names after `test`, each with its verdict.
fn told(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("test "));
    let mut told: Vec<(&str, &str)> =
        lines.filter_map(|line| line.split_once(" ... ")).map(|(a, b)| (a.trim(), b)).collect();
    told.sort_unstable();
    told
}

#[test]
fn every_end_of_a_test_is_told_with_its_reason() {
    let (code, text) = output(sample(&[]));
    assert_eq!(code, Some(101), "{text}");
    let expected = [
        ("[7] runs_alone", "ok"),
        ("fails", "FAILED"),
        ("fails_in_a_thread", "FAILED"),
        ("hangs", "FAILED"),
        ("leaves_a_child", "FAILED"),
        ("passes", "ok"),
        ("skips", "ignored (needs what is not there)"),
    ];
    assert_eq!(told(&text), expected);
    for reason in ["the reason\n", "the reason of a thread", "hung: no end", "left a child"] {
        assert!(text.contains(reason), "no {reason:?} in {text}");
    }
}

#[test]
fn nothing_is_skipped_in_ci() {
    let mut command = sample(&["skips"]);
    command.env("CI", "true");
    let (code, text) = output(command);
    assert_eq!((code, told(&text)), (Some(101), vec![("skips", "FAILED")]), "{text}");
    assert!(text.contains("cannot run: needs what is not there"), "{text}");
}

#[test]
fn arguments_choose_what_they_name_and_nothing_else() {
    let names = |arguments: &[&str]| {
        let (_, text) = output(sample(&[arguments, &["--list"]].concat()));
        text.lines().map(|line| line.replace(": test", "")).collect::<Vec<_>>()
    };
    assert_eq!(names(&["passes", "[7]"]), ["passes", "[7] runs_alone"]);
    assert_eq!(names(&["fails", "--exact"]), ["fails"]);
    assert_eq!(names(&["--exact", "[7] runs_alone"]), ["[7] runs_alone"]);
    assert_eq!(
        names(&["--skip", "fails", "--skip", "child"]),
        ["passes", "hangs", "skips", "[7] runs_alone"]
    );
    let (code, text) = output(sample(&["nothing is called so"]));
    assert_eq!((code, told(&text)), (Some(0), vec![]), "{text}");
}

#[test]
fn a_test_that_hangs_leaves_neither_processes_nor_directories() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = sample(&["hangs", "leaves_a_child"]);
    command.env("TMPDIR", directory.path());
    assert_eq!(output(command).0, Some(101));
    let mut entries = directory.path().read_dir().expect("list a directory");
    assert!(entries.next().is_none(), "a directory is left");
    // Waiting for the end of stdout means waiting for all of its owners: a remaining child would
    // have held `output` up.
}
