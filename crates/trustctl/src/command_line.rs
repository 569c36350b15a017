//! Tests of the whole command line: what it accepts, and how it reports mistakes.

use clap::Command;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use trust_cli::command::Program;
use trust_cli::exclusions::{Exclusion, When, settle};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::globals::{LOG_FILE, LOG_LEVEL, TRUST_HOME};
use trust_cli::layers::{Layers, Source};
use trust_cli::random::SplitMix;
use trust_cli::run::{Parsed, parse};
use trust_cli::startup::add_flags;
use trust_cli::syntax::command_line;
use trust_cli::usage::CommandLine;

use crate::commands::TRUSTCTL;

#[test]
fn global_flags_are_taken_before_and_after_the_command_but_not_twice() {
    let home_of = |line: &[&str]| {
        let matches = command_line(&TRUSTCTL).try_get_matches_from(line).unwrap();
        let mut layers = Layers::default();
        add_flags(&mut layers, &matches, TRUSTCTL.find("log demo"))?;
        Ok(layers.get(&TRUST_HOME))
    };
    let expected = Ok(Some(PathBuf::from("/x")));
    assert_eq!(home_of(&["--trust-home", "/x", "log", "demo", "m"]), expected);
    assert_eq!(home_of(&["log", "--trust-home", "/x", "demo", "m"]), expected);
    assert_eq!(home_of(&["log", "demo", "m", "--trust-home=/x"]), expected);
    let twice = ["--trust-home=/x", "log", "demo", "m", "--trust-home=/x"];
    let failure = Failure::new(ExitCode::Usage, "duplicate flag: --trust-home");
    assert_eq!(home_of(&twice), Err(failure));
}

fn parsed(tokens: &[OsString]) -> CommandLine<'static> {
    match parse(&TRUSTCTL, tokens) {
        Parsed::Line(line) => line,
        Parsed::Printed(_) => panic!("{tokens:?} asks for help"),
    }
}

fn mistake(line: &[&str]) -> String {
    let tokens: Vec<OsString> = line.iter().map(OsString::from).collect();
    match parsed(&tokens).mistake {
        Err(failure) => {
            assert_eq!(failure.exit, ExitCode::Usage);
            let shown = failure.shown();
            let mistake = shown.strip_prefix("error: ").expect("an error").to_owned();
            assert!(!failure.message.contains('\n'), "{mistake}");
            mistake
        }
        Ok(()) => "runs".into(),
    }
}

#[test]
fn mistakes_are_told_in_one_line_that_names_them() {
    let hold = "see 'trustctl hold --help'";
    let cases: [(&[&str], &str); 15] = [
        (&["hold", "--seconds"], "missing value for --seconds"),
        (&["hold", "--seconds", "--log-level", "info"], "missing value for --seconds"),
        (&["hold", "--seconds", "1", "--seconds", "2"], "duplicate flag: --seconds"),
        (&["hold", "--secnds", "1"], "unknown flag: --secnds\nhint: did you mean --seconds?"),
        (&["hold", "-x"], "unknown flag: -x"),
        (&["hold", "--a\nb"], "unknown flag: --a\\nb"),
        (&["hold", "5"], "unexpected argument: 5"),
        (&["hold", "--help=5"], "--help takes no value, but got '5'"),
        (
            &["hold", "--seconds", "-inf"],
            "invalid value '-inf' for --seconds: expected a time from 1ms to 277777h, or 0 (at \
             once), with ns, us, ms, s, m or h as in 500ms, or in seconds as 2.5",
        ),
        (
            &["hold", "--request-id", "-run"],
            "missing value for --request-id (if '-run' is the value, write --request-id=-run)",
        ),
        (&["--log-level", "info", "hold", "-x"], "unknown flag: -x"),
        (&["hold", "--trust-home=/x", "-x"], "unknown flag: -x"),
        (&["--request-id", "log", "hold", "-x"], "unknown flag: -x"),
        (&["hold", "\u{1b}[1m"], "unexpected argument: \\u{1b}[1m"),
        (&["hold", "--trust-home"], "missing value for --trust-home"),
    ];
    for (line, expected) in cases {
        let expected = match expected.contains("hint: ") {
            true => format!("{expected} {hold}"),
            false => format!("{expected}\nhint: {hold}"),
        };
        assert_eq!(mistake(line), expected, "{line:?}");
    }
    let message = mistake(&["log", "demo"]);
    assert_eq!(message, "missing argument: MESSAGE\nhint: see 'trustctl log demo --help'");
}

#[test]
fn unknown_and_missing_commands_come_with_the_valid_ones() {
    let names: Vec<&str> = TRUSTCTL.commands.iter().map(|entry| entry.name).collect();
    for (line, what) in [
        (&["foo"][..], "unknown command: foo"),
        (&["foo", "--seconds", "1"], "unknown command: foo"),
        (&["--log-level", "info", "a\nb"], "unknown command: a\\nb"),
    ] {
        let names = names.join(", ");
        let expected = format!("{what}: expected {names}\nhint: see 'trustctl --help'");
        assert_eq!(mistake(line), expected);
    }
    let near = mistake(&["hodl"]);
    assert!(near.ends_with("\nhint: did you mean hold? see 'trustctl --help'"), "{near}");
    let rest = ": expected log demo\nhint: see 'trustctl log --help'";
    assert_eq!(mistake(&["log"]), format!("missing command after 'log'{rest}"));
    assert_eq!(mistake(&["log", "foo"]), format!("unknown command: log foo{rest}"));
}

#[test]
fn without_a_command_there_is_an_example_of_each() {
    let overview = mistake(&[]);
    assert!(overview.starts_with("missing command\nhint: see 'trustctl --help'\n\n"), "{overview}");
    for entry in TRUSTCTL.commands {
        let line = format!("trustctl {} {}", entry.name, entry.example);
        let example = format!("\n  {}\n      {}", line.trim_end(), entry.about);
        assert!(overview.contains(&example), "{example:?} in {overview}");
    }
    let width = overview.lines().map(str::len).max();
    assert!(width <= Some(80), "{width:?} columns");
}

#[test]
fn a_command_can_have_another_one_inside_it() {
    let command_of = |line: &[&str]| {
        let tokens: Vec<OsString> = line.iter().map(OsString::from).collect();
        let told = parsed(&tokens).entry.map(|entry| entry.name);
        (mistake(line), told)
    };
    let runs = |name| ("runs".to_owned(), Some(name));
    assert_eq!(command_of(&["load", "--port", "1"]), runs("load"));
    assert_eq!(command_of(&["load", "merge", "a", "b"]), runs("load merge"));
    assert_eq!(command_of(&["load", "--log-level", "info", "merge", "a"]), runs("load merge"));
    assert_eq!(command_of(&["load", "--host", "merge", "--port", "1"]), runs("load"));
    assert_eq!(command_of(&["load", "--host=x", "-4"]), runs("load"));
    let merge = "\nhint: see 'trustctl load merge --help'";
    for (line, what) in [
        (&["load", "--port", "1", "merge", "x"][..], "--port cannot be used before 'merge'"),
        (&["load", "-4", "merge", "x"], "--ipv4 cannot be used before 'merge'"),
        (&["load", "merge"], "missing argument: FILE..."),
        (&["load", "merge", "x", "--port", "1"], "unknown flag: --port"),
    ] {
        assert_eq!(command_of(line), (format!("{what}{merge}"), Some("load merge")));
    }
    // Anything that is not the other command is taken as a server.
    assert_eq!(command_of(&["load", "mrge"]), runs("load"));
    assert_eq!(command_of(&["load", "localhost:1", "--json"]), runs("load"));
}

#[test]
fn a_token_of_more_than_1024_bytes_is_refused_before_anything_else() {
    assert_eq!(mistake(&["log", "demo", &"x".repeat(1024)]), "runs");
    let long = "x".repeat(2000);
    let message = "argument token exceeds 1024-byte limit (got 2000 bytes)";
    for line in [&[&*long][..], &["--help", &long], &["log", "demo", "--", &long]] {
        assert_eq!(mistake(line), message);
    }
}

#[test]
fn global_flags_and_the_command_are_found_in_a_wrong_line_too() {
    let line =
        ["--trust-home=/x", "log", "--bad", "demo", "--log-file", "none", "--", "--log-level"];
    let tokens = line.map(OsString::from);
    let line = parsed(&tokens);
    assert!(line.mistake.is_err());
    let mut layers = Layers::default();
    add_flags(&mut layers, &line.matches, None).unwrap();
    assert_eq!(layers.get(&TRUST_HOME), Some(PathBuf::from("/x")));
    assert_eq!(layers.get(&LOG_FILE), Some(PathBuf::from("none")));
    assert_eq!(layers.source(&LOG_LEVEL), Source::Default);
    assert_eq!(line.entry.map(|entry| entry.name), Some("log demo"));
}

#[test]
fn of_any_line_the_mistake_is_told_in_one_line() {
    let words = "load merge check hold log demo config show foo 5 -4 -6 -x -inf -1 -- --bad \
                 --bad=5 --port --port=1 --json --json=x --seconds --log-level --log-file=none \
                 --trust-home=/x --help=5";
    let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
    let words = [words, vec![OsString::from_vec(b"--\xff".to_vec()), OsString::new()]].concat();
    let mut numbers = SplitMix::new(1);
    let mut below = |most: usize| (numbers.next_u64() % most as u64) as usize;
    for _ in 0..500 {
        let len = 1 + below(7);
        let line: Vec<OsString> = (0..len).map(|_| words[below(words.len())].clone()).collect();
        let Err(failure) = parsed(&line).mistake else { continue };
        assert_eq!(failure.exit, ExitCode::Usage);
        assert!(!failure.message.contains('\n'), "{line:?}: {}", failure.message);
    }
}

#[test]
fn the_command_line_is_consistent() {
    command_line(&TRUSTCTL).debug_assert();
    for entry in TRUSTCTL.commands {
        let front = Program { name: "front", only: Some(entry), ..TRUSTCTL };
        command_line(&front).debug_assert();
    }
}

#[test]
fn help_lists_every_exit_code() {
    let help = command_line(&TRUSTCTL).render_long_help().to_string();
    for exit in ExitCode::ALL {
        let line = format!("  {:>3}  {}\n", exit.code(), exit.meaning());
        assert!(help.contains(&line), "{line}");
    }
}

#[test]
fn the_short_help_of_every_command_fits_a_screen() {
    let mut program = command_line(&TRUSTCTL).term_width(80);
    program.build();
    let fits = |command: &mut Command| {
        let name = command.get_name().to_owned();
        let lines_max = if ["load", "check"].contains(&&*name) { 60 } else { 40 };
        let help = command.clone().term_width(80).render_help().to_string();
        let lines = help.lines().count();
        let columns = help.lines().map(|line| line.chars().count()).max();
        assert!(lines <= lines_max && columns <= Some(80), "{lines}, {columns:?}: {help}");
    };
    fits(&mut program);
    for command in program.get_subcommands_mut() {
        fits(command);
        command.get_subcommands_mut().for_each(fits);
    }
}

#[test]
fn a_front_names_itself_in_its_help_and_version() {
    let front = Program { name: "front", only: TRUSTCTL.find("hold"), ..TRUSTCTL };
    let mut command = command_line(&front);
    assert_eq!(command.render_version(), concat!("front ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(command.render_usage().to_string().starts_with("Usage: front "));
}

/// A text that makes it count.
fn sample(when: &When) -> &'static str {
    let mut texts = [
        "true",
        "2",
        "1",
        "raw",
        "iterative",
        "p99<5ms",
        "poisson",
        "0/2",
        "serve {port}",
        "2026-11-20T18:30:00Z",
        "u16be",
        "localhost",
        "0660",
        "unix:x",
        "dns",
        "00ff",
        "framing/1",
    ]
    .into_iter();
    let fits = |text: &&str| {
        let mut layers = Layers::default();
        layers.add_flag(when.setting(), OsStr::new(text)).is_ok() && when.counts(&layers)
    };
    texts.find(fits).unwrap_or_else(|| panic!("no sample for {}", when.setting().flag()))
}

#[test]
fn of_every_pair_either_one_wins_by_its_layer() {
    let settings = TRUSTCTL.all_settings();
    for entry in TRUSTCTL.commands {
        for Exclusion(one, other, why) in entry.exclusions {
            for (winner, loser) in [(one, other), (other, one)] {
                let mut layers = Layers::default();
                let text = OsString::from(sample(loser));
                let variable = (OsString::from(loser.setting().variable()), text);
                layers.add_environment(&[variable], &settings).unwrap();
                layers.add_flag(winner.setting(), OsStr::new(sample(winner))).unwrap();
                settle(&mut layers, entry.exclusions).unwrap();
                assert!(winner.counts(&layers) && !loser.counts(&layers), "{why}");
                assert!(layers.source(loser.setting()) <= Source::Default, "{why}");
            }
            let mut layers = Layers::default();
            for when in [one, other] {
                layers.add_flag(when.setting(), OsStr::new(sample(when))).unwrap();
            }
            let failure = settle(&mut layers, entry.exclusions).unwrap_err();
            assert!(failure.exit == ExitCode::Usage && failure.message.ends_with(why));
        }
    }
}
