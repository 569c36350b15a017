//! The settings of `trustctl check`, and the command that tries a case again.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use trust_cli::again::{said, shell_word};
use trust_cli::exclusions::When::Given;
use trust_cli::exclusions::{Exclusion, not_zero};
use trust_cli::exit_code::Failure;
use trust_cli::framing::{self, Framing, NO_LENGTH, without_length};
use trust_cli::layers::Layers;
use trust_cli::settings::{AnySetting, Parse, Setting};
use trust_cli::target::Family;
use trust_cli::values::{ALLOWED_COUNT, ALLOWED_LIMIT, parse_count, parse_limit, quoted};

use crate::case::Case;
use crate::cases;
use crate::server_command::has_port;
use crate::setup::{NO_LIMIT, OnReset};

/// The word that calls it.
pub const NAME: &str = "check";

/// Its settings.
pub const SETTINGS: &[&dyn AnySetting] = &[
    &COMMAND,
    &PID,
    &FRAMING,
    &OFFSET,
    &ADJUST,
    &MAX_FRAME,
    &TIMEOUT,
    &MAX_CLIENTS,
    &PATIENCE,
    &SETTLE,
    &RESET,
    &STRICT,
    &EXPECT,
    &CASE,
    &LIST,
    &JSON,
    &JUNIT,
    &HTML,
    &SEED,
    &JOBS,
    &MAX_RATE,
    &MEMORY_ALLOWANCE,
];

/// Settings that cannot be used together.
pub const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(Given(&PID), Given(&COMMAND), "a server that is started is watched anyway"),
    Exclusion(without_length(&FRAMING), not_zero(&OFFSET), NO_LENGTH),
    Exclusion(without_length(&FRAMING), not_zero(&ADJUST), NO_LENGTH),
];

/// Checks the settings against each other.
///
/// # Errors
///
/// 64, or 78 for those of the configuration file.
pub fn check(layers: &Layers) -> Result<(), Failure> {
    framing::of_settings(layers, &FRAMING, &OFFSET, &ADJUST).map(drop)
}

/// The server's command.
pub const COMMAND: Setting<OsString> = Setting {
    command: Some(NAME),
    key: "command",
    value_name: "COMMAND",
    default: None,
    help: "Start this server, watch it and stop it, in place of HOST:PORT; {port} stands for a free port",
    allowed: "a command for sh with {port} in it",
    parse: Parse::Bytes(|text| has_port(text).then(|| text.to_owned())),
    switch: false,
};
/// The server's process.
pub const PID: Setting<u32> = Setting::of(
    NAME,
    "pid",
    "PID",
    None,
    "The server's process, on this host: its descriptors, memory and children are watched",
    "the number of a process",
    |text| parse_count(text).and_then(|pid| u32::try_from(pid).ok()),
);
/// How the server tells messages apart, without offset and adjustment.
pub const FRAMING: Setting<Framing> = framing::setting(NAME);
/// Bytes in front of the length field.
pub const OFFSET: Setting<u16> = framing::offset_setting(NAME);
/// Added to the length field's value.
pub const ADJUST: Setting<i64> = framing::adjust_setting(NAME);
/// The server's limit.
pub const MAX_FRAME: Setting<u64> = Setting::of(
    NAME,
    "max-frame",
    "BYTES",
    Some("65536"),
    "Largest payload that the server takes, inclusive, or none if it takes any",
    "a whole number from 1, or none",
    |text| if text == "none" { Some(NO_LIMIT) } else { parse_count(text) },
);
/// The server's timeout.
pub const TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "timeout",
    "SECONDS",
    None,
    "The server's timeout for silent clients; without it, such times are measured and not judged",
    ALLOWED_LIMIT,
    parse_limit,
);
/// The server's limit on clients.
pub const MAX_CLIENTS: Setting<u64> = Setting::of(
    NAME,
    "max-clients",
    "COUNT",
    None,
    "Clients that the server serves at the same time, if it turns more away [default: found out]",
    ALLOWED_COUNT,
    parse_count,
);
/// Longest wait for an answer.
pub const PATIENCE: Setting<Duration> = Setting::of(
    NAME,
    "patience",
    "SECONDS",
    Some("5"),
    "Longest wait for an answer without any progress",
    "a number of seconds of at least 0.001",
    |text| parse_limit(text).filter(|time| !time.is_zero()),
);
/// How long a piece is left alone.
pub const SETTLE: Setting<Duration> = Setting::of(
    NAME,
    "settle",
    "SECONDS",
    Some("0.02"),
    "How long the server is left alone with a piece of a message that its kernel, or that of a proxy in front of it, has acknowledged",
    "a number of seconds of at least 0.001",
    |text| parse_limit(text).filter(|time| !time.is_zero()),
);
/// What a RST means where a FIN would do.
pub const RESET: Setting<OnReset> = Setting::of(
    NAME,
    "reset",
    "VERDICT",
    Some("warn"),
    "What it means that the server sends RST where a FIN would do",
    "pass, warn or fail",
    |text| match text {
        "pass" => Some(OnReset::Pass),
        "warn" => Some(OnReset::Warn),
        "fail" => Some(OnReset::Fail),
        _ => None,
    },
);
/// Whether a warning is a failure.
pub const STRICT: Setting<bool> = Setting::switch(NAME, "strict", "A warning is a failure");
/// Failures that are known.
pub const EXPECT: Setting<PathBuf> = Setting::file(
    NAME,
    "expect",
    "Cases that are known to fail, an id or a pattern a line; they do not fail the run, but passing does",
);
/// Which cases.
pub const CASE: Setting<String> = Setting::of_parts(
    NAME,
    "case",
    "PATTERN",
    "Only these cases: ids with * for any characters, with commas between them",
    "ids of cases, or patterns with *, with commas between them",
    parse_patterns,
);
/// Whether to list them only.
pub const LIST: Setting<bool> =
    Setting::switch(NAME, "list", "Say which cases there are, and try none");
/// Whether the report is JSON.
pub const JSON: Setting<bool> =
    Setting::switch(NAME, "json", "Print one JSON document and nothing else");
/// Where a report for CI goes.
pub const JUNIT: Setting<PathBuf> =
    Setting::file(NAME, "junit", "Write a report in JUnit's XML too");
/// Where a report for people goes.
pub const HTML: Setting<PathBuf> =
    Setting::file(NAME, "html", "Write a page with all transcripts too, which needs nothing else");
/// Decides payloads.
pub const SEED: Setting<u64> = Setting::of(
    NAME,
    "seed",
    "NUMBER",
    Some("1"),
    "Decides all payloads",
    "a whole number from 0",
    |text| text.parse().ok(),
);
/// Cases at the same time.
pub const JOBS: Setting<u64> = Setting::of(
    NAME,
    "jobs",
    "COUNT",
    Some("8"),
    "Cases that run at the same time",
    "a whole number from 1 to 64",
    |text| parse_count(text).filter(|jobs| *jobs <= 64),
);
/// Connections a second.
pub const MAX_RATE: Setting<u64> = Setting::of(
    NAME,
    "max-rate",
    "COUNT",
    None,
    "New connections a second at most [default: no limit on this host, 50 elsewhere]",
    ALLOWED_COUNT,
    parse_count,
);
/// Growth of memory that is no leak.
pub const MEMORY_ALLOWANCE: Setting<u64> = Setting::of(
    NAME,
    "memory-allowance",
    "BYTES",
    Some("67108864"),
    "How much the server's memory may grow before it counts as a leak; more for a server with a large heap and a collector",
    ALLOWED_COUNT,
    parse_count,
);

/// What a run is about, not how a case is tried: these do not belong to the command that tries a case again.
const NOT_AGAIN: [&str; 7] = ["case", "expect", "html", "json", "junit", "list", "seed"];

/// A list of patterns that name a case each.
fn parse_patterns(text: &str) -> Result<String, String> {
    match text.split(',').find(|pattern| select(pattern).next().is_none()) {
        None => Ok(text.to_owned()),
        Some(unknown) => Err(format!(
            "{} names no case; allowed are {}, see --list",
            quoted(unknown),
            CASE.allowed
        )),
    }
}

/// Cases that the pattern names.
pub fn select(pattern: &str) -> impl Iterator<Item = &'static Case> {
    cases::all().filter(move |case| cases::matches(pattern, case.id))
}

/// The command that tries a case again, but for the case: program, server, every setting that is not the default, and
/// the seed.
pub fn again(layers: &Layers, arguments: &[OsString], family: Family) -> String {
    let mut words = vec!["trustctl".to_owned(), NAME.to_owned()];
    words.extend(arguments.iter().map(shell_word));
    words.extend(family.flag().map(str::to_owned));
    // Without a server of its own on the command line the one of a weaker layer is meant.
    let is_beaten = |key| key == COMMAND.key && !arguments.is_empty();
    let settings = SETTINGS
        .iter()
        .copied()
        .filter(|setting| !NOT_AGAIN.contains(&setting.key()) && !is_beaten(setting.key()));
    words.extend(said(layers, settings));
    let (seed, _) = layers.text(&SEED);
    words.push(format!("--seed {}", seed.unwrap_or_default().to_string_lossy()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn the_command_that_tries_again_says_everything_that_is_not_the_default() {
        let mut layers = Layers::default();
        let again_of = |layers: &Layers| again(layers, &["::1".into(), "9900".into()], Family::V6);
        assert_eq!(again_of(&layers), "trustctl check ::1 9900 -6 --seed 1");
        let flags: [(&dyn AnySetting, &str); 7] = [
            (&FRAMING, "u16le+incl"),
            (&ADJUST, "-2"),
            (&PATIENCE, "5"),
            (&STRICT, "true"),
            (&JUNIT, "x.xml"),
            (&SEED, "7"),
            (&PID, "12"),
        ];
        for (setting, text) in flags {
            layers.add_flag(setting, OsStr::new(text)).unwrap();
        }
        let expected = "trustctl check ::1 9900 -6 --pid 12 --framing u16le+incl --adjust=-2 --strict --seed 7";
        assert_eq!(again_of(&layers), expected);

        let mut started = Layers::default();
        started.add_flag(&COMMAND, OsStr::new("PORT={port} it's \"mine\"")).unwrap();
        let expected = "trustctl check --command 'PORT={port} it'\\''s \"mine\"' --seed 1";
        assert_eq!(again(&started, &[], Family::Any), expected);
    }

    #[test]
    fn a_variable_is_said_as_a_flag_unless_the_command_line_beats_it() {
        let mut layers = Layers::default();
        let variables = [("TRUST_CHECK_COMMAND", "serve {port}"), ("TRUST_CHECK_FRAMING", "raw")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        layers.add_environment(&variables, SETTINGS).unwrap();
        let with_server = again(&layers, &["localhost:1".into()], Family::Any);
        assert_eq!(with_server, "trustctl check localhost:1 --framing raw --seed 1");
        let without = again(&layers, &[], Family::Any);
        assert_eq!(without, "trustctl check --command 'serve {port}' --framing raw --seed 1");
    }
}
