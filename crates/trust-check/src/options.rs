//! The settings of `trustctl check`, and the command that tries a case again.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trust_cli::again::{said, shell_word};
use trust_cli::exchange_file::dialects::Dialect;
use trust_cli::exclusions::When::{Given, On};
use trust_cli::exclusions::{Exclusion, not_zero};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::framing::{self, Framing, NO_LENGTH, without_length};
use trust_cli::layers::Layers;
use trust_cli::options;
use trust_cli::send_proxy::SEND_PROXY as PREFACE;
use trust_cli::settings::{AnySetting, ValueKind};
use trust_cli::target::{self, Family, ServerSettings, ServerWord, Target};
use trust_cli::text::reason;
use trust_cli::values::{self, parse_count, parse_large_size, parse_up_to, quoted};
use trust_net::preface::ProxyPreface;

use crate::case::{self, Case};
use crate::cases;
use crate::exchange::dialect;
use crate::exchange::escapes::{hex_request, text_request};
use crate::exchange::file;
use crate::exchange::protocol::Protocol;
use crate::exchange::template::Template;
use crate::server_command::has_place;
use crate::setup::{NO_LIMIT, OnReset};

/// The word that calls it.
pub const NAME: &str = "check";

options! {
    /// Options of `trustctl check`, one field per flag.
    pub struct CheckOptions of "check" {
        group "Server"
        /// The server's name or address, or unix:PATH, in place of HOST:PORT
        ///
        /// The port may be part of it.
        HOST host: ServerWord = "localhost", target::HOST;
        /// The server's port, in place of HOST:PORT
        PORT port: u16, target::SERVER_PORT;
        /// Start this server, watch it and stop it, in place of HOST:PORT
        ///
        /// {port} stands for a free port, {socket} for the path of a unix socket.
        COMMAND command: OsString, ValueKind::of_bytes(
            "COMMAND",
            "a command for sh with {port} or {socket} in it",
            |text| has_place(text).then(|| text.to_owned()),
        );
        /// The same server without the box between
        ///
        /// HOST:PORT leads through the box. All cases are tried on both, and what differs is
        /// reported.
        BASELINE baseline: Target,
            ValueKind::of_parts("SERVER", "HOST:PORT, :PORT, PORT or unix:PATH", Target::of_word);
        /// The server's process, to watch its resources
        ///
        /// It runs on this host; its descriptors, memory and children are watched.
        PID pid: u32, ValueKind::of_text("PID", "the number of a process", |text| {
                parse_count(text).and_then(|pid| u32::try_from(pid).ok())
        });

        group "Protocol of the server"
        /// How it tells messages apart: its length field, raw or line
        ///
        /// The length field's width and order, with +incl if the length counts its own header.
        FRAMING framing: Framing = "u32be", framing::FRAMING;
        /// Bytes before the length field, sent as zeros
        OFFSET offset: u16 = "0", framing::OFFSET;
        /// Added to the value of the length field
        ///
        /// For lengths that count more or less than what follows.
        ADJUST adjust: i64 = "0", framing::ADJUST;
        /// Largest payload that it takes, or none
        ///
        /// none: it takes any.
        MAX_FRAME max_frame: u64 = "65536",
            ValueKind::of_text("SIZE", "a size from 1 byte, as 65536 or 64KiB, or none", |text| {
                if text == "none" { Some(NO_LIMIT) } else { parse_large_size(text) }
            });
        /// Its idle timeout
        ///
        /// Without it, such times are measured and not judged.
        TIMEOUT timeout: Duration, values::LIMIT;
        /// Clients that it serves at once, if it has a limit
        ///
        /// [default: found out]
        MAX_CLIENTS max_clients: u64, values::COUNT;

        group "A server that does not echo"
        /// Check a server of this protocol, which need not echo
        ///
        /// Its exchanges only read, or use a key that begins with trustctl-check. --print shows
        /// them.
        DIALECT dialect: &'static Dialect, ValueKind::of_parts(
            "NAME",
            "dns, ftp, http, kafka, line, memcached, modbus, mqtt, mysql, postgres, redis or smtp",
            parse_dialect,
        );
        /// Check with the exchanges of this file
        ///
        /// It says where a message ends, what is sent, and what may differ.
        EXCHANGE exchange: PathBuf, values::FILE;
        /// Check with this request; \r \n \t \0 \\ \xNN
        ///
        /// What is answered to it in one piece is what has to be answered always.
        SEND send: Template, ValueKind::of_parts("TEXT", "text with escapes", text_request);

        group "Cases"
        /// Only these cases: ids or patterns, with commas
        ///
        /// In a pattern * stands for any characters.
        CASE case: String, PATTERNS;
        /// Leave out cases that take long
        ///
        /// Those about time, limits and the process, and some others.
        QUICK quick: bool = off, values::SWITCH;
        /// List the cases, and run none
        LIST list: bool = off, values::SWITCH;
        /// Longest wait for an answer without progress
        PATIENCE patience: Duration = "5s", values::TIME;

        group "Verdict"
        /// What a RST in place of a FIN counts as
        RESET reset: OnReset = "warn",
            ValueKind::of_text("VERDICT", "pass, warn or fail", OnReset::parse);
        /// Treat a warning as a failure
        STRICT strict: bool = off, values::SWITCH;
        /// Cases that are known to fail, one id or pattern per line
        ///
        /// They do not fail the run, but passing does.
        EXPECT expect: PathBuf, values::FILE;

        group "Reports"
        /// Print one JSON document and nothing else
        JSON json: bool = off, values::SWITCH;
        /// Write a JUnit XML report too
        JUNIT junit: PathBuf, values::FILE;
        /// Write a page with all transcripts too
        ///
        /// It is one file and loads no other.
        HTML html: PathBuf, values::FILE;


        rare "More about a server that does not echo"
        /// Learn from whole requests, and write an exchange file
        ///
        /// It says where a message ends, what differs between answers, and more. Guesses are marked
        /// as such. No case is run.
        PROPOSE propose: PathBuf, values::FILE;
        /// Check with this request, as --send does, in hexadecimal
        SEND_HEX send_hex: Template, ValueKind::of_parts("HEX", "pairs of digits", hex_request);
        /// What --dialect http asks for, as /health or HOST/health
        PATH path: String, ValueKind::of_text("PATH", "a path", |text| Some(text.to_owned()));
        /// Print the exchange file of --dialect, and run no case
        PRINT print: bool = off, values::SWITCH;
        /// Try limits and resources of a server on another host too
        ///
        /// Only for a server that does not echo; others are always tried.
        HEAVY heavy: bool = off, values::SWITCH;

        rare "Reports about a failure"
        /// Write a Python program that shows the first failure without trustctl
        ///
        /// It needs its standard library alone; its exit code says whether the server fails.
        REPRO repro: PathBuf, values::FILE;

        /// Write a report of it for the server's maintainer, as Markdown
        ///
        /// It has the program of --repro in it.
        ISSUE issue: PathBuf, values::FILE;

        rare "Starting and connecting"
        /// Time to try again while no server is there
        ///
        /// That is while it refuses, is unreachable, its name is unknown or its socket missing.
        WAIT wait: Duration = "0", values::OPTIONAL_TIME;
        /// Time for --command to accept connections
        START_TIMEOUT start_timeout: Duration = "10s", values::TIME;
        /// Time for --command to end after SIGTERM
        ///
        /// Then it gets SIGKILL.
        STOP_TIMEOUT stop_timeout: Duration = "3s", values::DELAY;
        /// Send a PROXY protocol header first on each connection, as a load balancer does
        ///
        /// The header names the connection's own address as the client's. v2=203.0.113.7:4711 names
        /// another one; without :PORT, with the connection's own port. v1=unknown and v2=local name
        /// none, as health checks do.
        SEND_PROXY send_proxy: ProxyPreface, PREFACE;

        rare "Pace and measurement"
        /// Time that the server is left alone with a piece of a message
        ///
        /// Its kernel, or that of a proxy in front of it, has acknowledged the piece by then.
        SETTLE settle: Duration = "20ms", values::TIME;
        /// Longest silence after which --baseline looks whether a box ends idle clients
        ///
        /// It is waited for once, and a part of it again to find the time to a second. 0: it is not
        /// measured.
        IDLE_MAX idle_max: Duration = "10s", values::OPTIONAL_TIME;
        /// Decides all payloads
        SEED seed: u64 = "1", values::SEED;
        /// Cases that run at the same time
        JOBS jobs: u64 = "8",
            ValueKind::of_text("COUNT", "a whole number from 1 to 64", parse_up_to::<64>);
        /// Most new connections per second [default: 50 for another host]
        ///
        /// On this host 500, and no limit for an echo server.
        MAX_RATE max_rate: u64, values::COUNT_PER_SECOND;
        /// Growth of the server's memory above which it counts as a leak
        ///
        /// A server with a large heap and a garbage collector needs more.
        MEMORY_ALLOWANCE memory_allowance: u64 = "64MiB", values::LARGE_SIZE;
    }
}

const OWN_PORT: &str = "a server that is started gets a port or a socket on this host";

/// What names the server.
pub const SERVER: ServerSettings = ServerSettings { host: &HOST, port: &PORT };

/// Settings that cannot be used together.
pub const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(Given(&HOST), Given(&COMMAND), OWN_PORT),
    Exclusion(Given(&PORT), Given(&COMMAND), OWN_PORT),
    Exclusion(Given(&WAIT), Given(&COMMAND), "a server that is started is waited for anyway"),
    Exclusion(Given(&PID), Given(&COMMAND), "a server that is started is watched anyway"),
    Exclusion(without_length(&FRAMING), not_zero(&OFFSET), NO_LENGTH),
    Exclusion(without_length(&FRAMING), not_zero(&ADJUST), NO_LENGTH),
    Exclusion(Given(&DIALECT), Given(&EXCHANGE), ONE_SOURCE),
    Exclusion(Given(&DIALECT), Given(&SEND), ONE_SOURCE),
    Exclusion(Given(&DIALECT), Given(&SEND_HEX), ONE_SOURCE),
    Exclusion(Given(&EXCHANGE), Given(&SEND), ONE_SOURCE),
    Exclusion(Given(&EXCHANGE), Given(&SEND_HEX), ONE_SOURCE),
    Exclusion(Given(&SEND), Given(&SEND_HEX), ONE_SOURCE),
    Exclusion(Given(&DIALECT), Given(&FRAMING), OWN_FRAMING),
    Exclusion(Given(&DIALECT), Given(&MAX_FRAME), OWN_FRAMING),
    Exclusion(Given(&DIALECT), not_zero(&OFFSET), OWN_FRAMING),
    Exclusion(Given(&DIALECT), not_zero(&ADJUST), OWN_FRAMING),
    Exclusion(Given(&EXCHANGE), Given(&FRAMING), OWN_FRAMING),
    Exclusion(Given(&EXCHANGE), Given(&MAX_FRAME), OWN_FRAMING),
    Exclusion(Given(&EXCHANGE), not_zero(&OFFSET), OWN_FRAMING),
    Exclusion(Given(&EXCHANGE), not_zero(&ADJUST), OWN_FRAMING),
    Exclusion(Given(&SEND), Given(&FRAMING), NO_FRAMING),
    Exclusion(Given(&SEND), Given(&MAX_FRAME), NO_FRAMING),
    Exclusion(Given(&SEND), not_zero(&OFFSET), NO_FRAMING),
    Exclusion(Given(&SEND), not_zero(&ADJUST), NO_FRAMING),
    Exclusion(Given(&SEND_HEX), Given(&FRAMING), NO_FRAMING),
    Exclusion(Given(&SEND_HEX), Given(&MAX_FRAME), NO_FRAMING),
    Exclusion(Given(&SEND_HEX), not_zero(&OFFSET), NO_FRAMING),
    Exclusion(Given(&SEND_HEX), not_zero(&ADJUST), NO_FRAMING),
    Exclusion(Given(&BASELINE), Given(&COMMAND), "a box stands in front of a server that runs"),
    Exclusion(Given(&BASELINE), Given(&PID), "what differs is seen from outside"),
    Exclusion(Given(&BASELINE), Given(&EXPECT), ONLY_DIFFERENCES),
    Exclusion(Given(&BASELINE), Given(&REPRO), ONLY_DIFFERENCES),
    Exclusion(Given(&BASELINE), Given(&ISSUE), ONLY_DIFFERENCES),
    Exclusion(Given(&PROPOSE), Given(&BASELINE), NO_CASE),
    Exclusion(Given(&PROPOSE), On(&PRINT), ONE_FILE),
    Exclusion(Given(&PROPOSE), Given(&CASE), NO_CASE),
    Exclusion(Given(&PROPOSE), On(&QUICK), NO_CASE),
    Exclusion(Given(&PROPOSE), On(&HEAVY), NO_CASE),
    Exclusion(Given(&PROPOSE), On(&LIST), NO_CASE),
    Exclusion(Given(&PROPOSE), On(&STRICT), NO_CASE),
    Exclusion(Given(&PROPOSE), Given(&EXPECT), NO_CASE),
    Exclusion(Given(&PROPOSE), On(&JSON), NO_CASE),
    Exclusion(Given(&PROPOSE), Given(&JUNIT), NO_CASE),
    Exclusion(Given(&PROPOSE), Given(&HTML), NO_CASE),
    Exclusion(Given(&PROPOSE), Given(&REPRO), NO_CASE),
    Exclusion(Given(&PROPOSE), Given(&ISSUE), NO_CASE),
];

const ONLY_DIFFERENCES: &str = "only what differs is reported";
const ONE_FILE: &str = "one exchange file is written";
const NO_CASE: &str = "no case is run";
const ONE_SOURCE: &str = "the exchanges come from one place";
const OWN_FRAMING: &str = "the exchanges say where a message ends";
const NO_FRAMING: &str = "an exchange file says where a message ends";

/// The dialect of that name.
fn parse_dialect(text: &str) -> Result<&'static Dialect, String> {
    let unknown = || format!("expected {}", DIALECT.allowed);
    Dialect::named(text).ok_or_else(unknown)
}

/// Checks the settings against each other.
///
/// # Errors
///
/// 64, or 78 for those of the configuration file.
pub fn check(layers: &Layers) -> Result<(), Failure> {
    CheckOptions::of(layers).framing(layers).map(drop)
}

impl CheckOptions {
    /// What the server is asked, unless it echoes.
    ///
    /// # Errors
    ///
    /// 64 for a path that the dialect does not take, 65 for an invalid exchange file.
    pub fn protocol(&self, layers: &Layers) -> Result<Option<Protocol>, Failure> {
        let usage = |setting: &dyn AnySetting, message: String| {
            Failure::new(layers.blame(&[setting]), format!("{}: {message}", layers.place(setting)))
        };
        if let (Some(_), None) = (&self.path, self.dialect) {
            return Err(usage(&PATH, "it needs --dialect http".to_owned()));
        }
        if let Some(dialect) = self.dialect {
            let protocol = dialect::protocol(dialect, self.path.as_deref());
            return protocol.map(Some).map_err(|message| usage(&PATH, message));
        }
        if let Some(path) = &self.exchange {
            let failed = |exit, message: String| Failure::new(exit, message);
            if let Err(error) = File::open(path) {
                let message = format!("cannot read {}: {}", quoted(path), reason(&error));
                return Err(failed(ExitCode::Io, message));
            }
            let invalid = |message| failed(ExitCode::DataError, message);
            return file::read(path).map(Some).map_err(invalid);
        }
        let request = self.send.as_ref().or(self.send_hex.as_ref());
        if let (Some(_), None) = (&self.propose, request) {
            let expected = "it needs --send, --send-hex, --exchange or --dialect";
            return Err(usage(&PROPOSE, expected.to_owned()));
        }
        Ok(request.map(|request| Protocol::of_requests("one request", vec![request.clone()])))
    }

    /// How the server tells messages apart.
    ///
    /// # Errors
    ///
    /// 64, or 78 from the file, for an offset or an adjustment that the framing has no room for.
    pub fn framing(&self, layers: &Layers) -> Result<Framing, Failure> {
        framing::of_settings(
            layers,
            (&FRAMING, self.framing),
            (&OFFSET, self.offset),
            (&ADJUST, self.adjust),
        )
    }
}

/// Settings that concern the run and not how a case is tried: the command that tries a case again
/// leaves them out.
const NOT_AGAIN: [&str; 14] = [
    "baseline", "case", "expect", "html", "idle-max", "issue", "json", "junit", "list", "propose",
    "quick", "repro", "seed", "wait",
];

/// Settings that an exchange file replaces.
const IN_FILE: [&str; 5] = ["dialect", "exchange", "path", "send", "send-hex"];

const PATTERNS: ValueKind<String> = ValueKind::of_parts(
    "PATTERN",
    "ids of cases, or patterns with *, with commas between them",
    parse_patterns,
);

/// A list of patterns that name a case each.
fn parse_patterns(text: &str) -> Result<String, String> {
    match text.split(',').find(|pattern| select(pattern).next().is_none()) {
        None => Ok(text.to_owned()),
        Some(unknown) => {
            Err(format!("{} names no case: expected {}, see --list", quoted(unknown), CASE.allowed))
        }
    }
}

/// Cases that the pattern names.
pub fn select(pattern: &str) -> impl Iterator<Item = &'static Case> {
    cases::all().filter(move |case| case::matches(pattern, case.id))
}

/// The command that tries a case again, without the case itself: program, server, every setting
/// that is not the default, and the seed.
pub fn again(layers: &Layers, arguments: &[OsString], family: Family) -> String {
    let mut words = words(layers, arguments, family, &NOT_AGAIN);
    let (seed, _) = layers.text(&SEED);
    words.push(format!("--seed {}", seed.unwrap_or_default().to_string_lossy()));
    words.join(" ")
}

/// The command that checks the same server with this exchange file.
pub fn with_exchange(
    layers: &Layers,
    arguments: &[OsString],
    family: Family,
    file: &Path,
) -> String {
    let mut words = words(layers, arguments, family, &[&NOT_AGAIN[..], &IN_FILE].concat());
    words.push(format!("--exchange {}", shell_word(file)));
    words.join(" ")
}

/// The words of a command, without these settings.
fn words(layers: &Layers, arguments: &[OsString], family: Family, without: &[&str]) -> Vec<String> {
    let mut words = vec!["trustctl".to_owned(), NAME.to_owned()];
    words.extend(arguments.iter().map(shell_word));
    words.extend(family.flag().map(str::to_owned));
    // Without a server of its own on the command line the one of a weaker layer is meant.
    let beaten = [COMMAND.key, HOST.key, PORT.key];
    let is_beaten = |key: &str| !arguments.is_empty() && beaten.contains(&key);
    let settings = SETTINGS
        .iter()
        .copied()
        .filter(|setting| !without.contains(&setting.key) && !is_beaten(setting.key));
    words.extend(said(layers, settings));
    words
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
        let expected = "trustctl check ::1 9900 -6 --pid 12 --framing u16le+incl --adjust=-2 \
                        --strict --seed 7";
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
