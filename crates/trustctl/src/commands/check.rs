//! `trustctl check HOST:PORT`: finds the stream bugs of any server.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use clap::{Arg, Command, value_parser};

use crate::check::case::Case;
use crate::check::cases;
use crate::check::framing::Framing;
use crate::check::report::{Counts, terminal};
use crate::check::runner::{self, Listener, Outcome, Plan};
use crate::check::setup::{OnReset, Rate, Setup};
use crate::commands::echo_client::stopped_by;
use crate::commands::{Context, Stdout, print};
use crate::connect::{ConnectError, Limit, connect, resolve};
use crate::exit_code::{ExitCode, Failure};
use crate::settings::{AnySetting, Setting};
use crate::target::{Family, Target};
use crate::text::reason;
use crate::values::{
    ALLOWED_BOOL, ALLOWED_COUNT, ALLOWED_LIMIT, parse_bool, parse_count, parse_limit, parse_text,
    quoted,
};

/// The word that calls it.
pub const NAME: &str = "check";

/// Its settings.
pub const SETTINGS: &[&dyn AnySetting] = &[
    &FRAMING, &OFFSET, &ADJUST, &MAX_FRAME, &TIMEOUT, &PATIENCE, &SETTLE, &RESET, &STRICT, &CASE,
    &LIST, &SEED, &JOBS, &MAX_RATE,
];

const fn setting<T>(
    key: &'static str,
    value_name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
    allowed: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Setting<T> {
    Setting { command: Some(NAME), key, value_name, default, help, allowed, parse, switch: false }
}

const fn switch(key: &'static str, help: &'static str) -> Setting<bool> {
    let allowed = ALLOWED_BOOL;
    Setting {
        command: Some(NAME),
        key,
        value_name: "BOOL",
        default: None,
        help,
        allowed,
        parse: parse_bool,
        switch: true,
    }
}

const FRAMING: Setting<Framing> = setting(
    "framing",
    "FRAMING",
    Some("u32be"),
    "How the server tells messages apart: the length field's width and order, +incl if the length counts its own header; raw; line",
    Framing::ALLOWED,
    Framing::parse,
);
const OFFSET: Setting<u16> = setting(
    "offset",
    "BYTES",
    Some("0"),
    "Bytes in front of the length field; zeros are sent there",
    "a whole number of bytes from 0 to 255",
    |text| text.parse().ok().filter(|bytes| *bytes <= 255),
);
const ADJUST: Setting<i64> = setting(
    "adjust",
    "BYTES",
    Some("0"),
    "Added to the length field's value, for lengths that count more or less than what follows",
    "a whole number of bytes from -65536 to 65536",
    |text| text.parse().ok().filter(|bytes: &i64| bytes.abs() <= 65_536),
);
const MAX_FRAME: Setting<u64> = setting(
    "max-frame",
    "BYTES",
    Some("65536"),
    "Largest payload that the server takes, inclusive",
    ALLOWED_COUNT,
    parse_count,
);
const TIMEOUT: Setting<Duration> = setting(
    "timeout",
    "SECONDS",
    None,
    "The server's timeout for silent clients; without it, such times are measured and not judged",
    ALLOWED_LIMIT,
    parse_limit,
);
const PATIENCE: Setting<Duration> = setting(
    "patience",
    "SECONDS",
    Some("5"),
    "Longest wait for an answer without any progress",
    "a number of seconds of at least 0.001",
    |text| parse_limit(text).filter(|time| !time.is_zero()),
);
const SETTLE: Setting<Duration> = setting(
    "settle",
    "SECONDS",
    Some("0.02"),
    "How long the server is left alone with a piece of a message that its kernel has acknowledged",
    "a number of seconds of at least 0.001",
    |text| parse_limit(text).filter(|time| !time.is_zero()),
);
const RESET: Setting<OnReset> = setting(
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
const STRICT: Setting<bool> = switch("strict", "A warning is a failure");
const CASE: Setting<String> = setting(
    "case",
    "PATTERN",
    None,
    "Only these cases: ids with * for any characters, with commas between them",
    "ids of cases, or patterns with *, with commas between them",
    |text| {
        parse_text(text)
            .filter(|text| text.split(',').all(|pattern| select(pattern).next().is_some()))
    },
);
const LIST: Setting<bool> = switch("list", "Say which cases there are, and try none");
const SEED: Setting<u64> =
    setting("seed", "NUMBER", Some("1"), "Decides all payloads", "a whole number from 0", |text| {
        text.parse().ok()
    });
const JOBS: Setting<u64> = setting(
    "jobs",
    "COUNT",
    Some("8"),
    "Cases that run at the same time",
    "a whole number from 1 to 64",
    |text| parse_count(text).filter(|jobs| *jobs <= 64),
);
const MAX_RATE: Setting<u64> = setting(
    "max-rate",
    "COUNT",
    None,
    "New connections a second at most [default: no limit on this host, 50 elsewhere]",
    ALLOWED_COUNT,
    parse_count,
);

/// New connections a second to a server on another host.
const REMOTE_RATE: u64 = 50;

/// Its part of the command line.
pub fn command() -> Command {
    let server = Arg::new("server")
        .value_name("HOST PORT|HOST:PORT")
        .help("The server; an IPv6 address as ::1 9900 or [::1]:9900")
        .num_args(0..=2)
        .value_parser(value_parser!(OsString));
    Command::new(NAME)
        .about("Find the stream bugs of a server: every case a conversation, a verdict and the wire's transcript")
        .arg(server)
        .args(SETTINGS.iter().map(|setting| setting.arg()))
        .args(Family::args())
}

/// Tries the cases.
///
/// # Errors
///
/// 64 for settings that do not go together, 68, 69, 75 and 77 if nobody answers at all.
pub fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let cases = wanted_cases(context)?;
    if context.layers.get(&LIST)? == Some(true) {
        return list(&cases);
    }
    let arguments: Vec<OsString> =
        context.matches.get_many::<OsString>("server").unwrap_or_default().cloned().collect();
    let (target, rest) = Target::parse(&arguments)?;
    if let Some(extra) = rest.first() {
        return Err(Failure::new(
            ExitCode::Usage,
            format!("unexpected argument {}", quoted(extra)),
        ));
    }
    let patience = context.layers.require(&PATIENCE)?;
    let limit = Limit::start(patience);
    let connected = resolve(&target, Family::of(context.matches), limit, context.signals)
        .and_then(|addresses| connect(&target, &addresses, limit, context.signals));
    let stream = match connected {
        Ok(stream) => stream,
        Err(ConnectError::Signal(signal)) => return Ok(stopped_by(signal, context.log)),
        Err(ConnectError::Failed(failure)) => return Err(failure),
    };
    let address = stream.peer_addr().map_err(|error| internal(&error))?;
    drop(stream);
    let (stop, stopper) = io::pipe().map_err(|error| internal(&error))?;
    let is_near = address.ip().is_loopback();
    let mut setup = Setup {
        address,
        framing: framing(context)?,
        max_frame: context.layers.require(&MAX_FRAME)?,
        timeout: context.layers.get(&TIMEOUT)?.filter(|timeout| !timeout.is_zero()),
        patience,
        settle: context.layers.require(&SETTLE)?,
        reset: context.layers.require(&RESET)?,
        seed: context.layers.require(&SEED)?,
        one_at_a_time: false,
        rate: Rate::new(context.layers.get(&MAX_RATE)?.or((!is_near).then_some(REMOTE_RATE))),
        stop: OwnedFd::from(stop),
    };
    let plan = Plan { cases, jobs: context.layers.require(&JOBS)? as usize };
    let mut lines = Lines { again: format!("trustctl check {target}"), gone: false, problem: None };
    let (outcomes, signal) =
        runner::run(&mut setup, &plan, None, context.signals, stopper, &mut lines)
            .map_err(|error| internal(&error))?;
    if let Some(problem) = lines.problem {
        return Err(problem);
    }
    let counts = Counts::of(&outcomes);
    print(terminal::summary(&counts).as_bytes())?;
    let strict = context.layers.get(&STRICT)? == Some(true);
    Ok(match signal {
        Some(signal) => stopped_by(signal, context.log),
        None if counts.fail > 0 || (strict && counts.warn > 0) => ExitCode::Negative,
        None if counts.tried() == 0 => ExitCode::Negative,
        None => ExitCode::Success,
    })
}

/// Prints a line a case.
struct Lines {
    again: String,
    gone: bool,
    problem: Option<Failure>,
}

impl Listener for Lines {
    fn progress(&mut self, _running: &[&'static str], _done: usize, _of: usize) {}

    fn finished(&mut self, outcome: &Outcome) {
        if self.gone || self.problem.is_some() {
            return;
        }
        let again = format!("{} --case {}", self.again, outcome.case.id);
        match print(terminal::outcome(outcome, &again).as_bytes()) {
            Ok(Stdout::Open) => {}
            Ok(Stdout::Gone) => self.gone = true,
            Err(problem) => self.problem = Some(problem),
        }
    }
}

fn framing(context: &Context<'_>) -> Result<Framing, Failure> {
    let framing = context.layers.require(&FRAMING)?;
    let (offset, adjust) = (context.layers.require(&OFFSET)?, context.layers.require(&ADJUST)?);
    let refused = |setting: &dyn AnySetting| {
        let message =
            format!("{} does not go with framing {framing}", context.layers.place(setting));
        Failure::new(ExitCode::Usage, message)
    };
    match framing {
        Framing::Length(format) => {
            let format = format.with_offset(offset).ok_or_else(|| refused(&OFFSET))?;
            Ok(Framing::Length(format.with_adjust(adjust).ok_or_else(|| refused(&ADJUST))?))
        }
        _ if offset != 0 => Err(refused(&OFFSET)),
        _ if adjust != 0 => Err(refused(&ADJUST)),
        _ => Ok(framing),
    }
}

fn select(pattern: &str) -> impl Iterator<Item = &'static Case> {
    cases::all().filter(move |case| cases::matches(pattern, case.id))
}

fn wanted_cases(context: &Context<'_>) -> Result<Vec<&'static Case>, Failure> {
    let patterns = context.layers.get(&CASE)?.unwrap_or_else(|| "*".to_owned());
    let is_wanted =
        |case: &&'static Case| patterns.split(',').any(|pattern| cases::matches(pattern, case.id));
    Ok(cases::all().filter(is_wanted).collect())
}

fn list(cases: &[&'static Case]) -> Result<ExitCode, Failure> {
    for case in cases {
        if print(format!("{:<14}  {}\n", case.id, case.title).as_bytes())? == Stdout::Gone {
            break;
        }
    }
    Ok(ExitCode::Success)
}

fn internal(error: &io::Error) -> Failure {
    Failure::new(ExitCode::OsLimit, format!("the check cannot run: {}", reason(error)))
}
