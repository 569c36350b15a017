//! `trustctl load --port P`: echoes under load, one client after the other.

use std::time::Duration;

use clap::Command;

use crate::commands::echo_client::stopped_by;
use crate::commands::{Context, Stdout, print};
use crate::connect::{ConnectError, Limit, connect, resolve};
use crate::exit_code::{ExitCode, Failure};
use crate::load::sequential::client::{self, Outcome, Plan};
use crate::load::sequential::payload::Payloads;
use crate::load::sequential::report::Report;
use crate::settings::{AnySetting, Setting};
use crate::target::{ALLOWED_SERVER_PORT, Family, Target, parse_server_port};
use crate::values::{ALLOWED_COUNT, ALLOWED_LIMIT, parse_count, parse_limit, parse_text};

/// The word that calls it.
pub const NAME: &str = "load";

/// Its settings.
pub const SETTINGS: &[&dyn AnySetting] = &[&HOST, &PORT, &CLIENTS, &MESSAGES, &TIMEOUT];

const HOST: Setting<String> = Setting {
    command: Some(NAME),
    key: "host",
    value_name: "HOST",
    default: Some("localhost"),
    help: "The server's name or address",
    allowed: "a host name or an address",
    parse: parse_text,
    switch: false,
};

const PORT: Setting<u16> = Setting {
    command: Some(NAME),
    key: "port",
    value_name: "PORT",
    default: None,
    help: "The server's port; required",
    allowed: ALLOWED_SERVER_PORT,
    parse: parse_server_port,
    switch: false,
};

const CLIENTS: Setting<u64> = Setting {
    command: Some(NAME),
    key: "clients",
    value_name: "N",
    default: Some("1"),
    help: "Clients, one after the other, each with its own connection",
    allowed: ALLOWED_COUNT,
    parse: parse_count,
    switch: false,
};

const MESSAGES: Setting<u64> = Setting {
    command: Some(NAME),
    key: "messages",
    value_name: "M",
    default: Some("10"),
    help: "Messages of each client, one at a time",
    allowed: ALLOWED_COUNT,
    parse: parse_count,
    switch: false,
};

const TIMEOUT: Setting<Duration> = Setting {
    command: Some(NAME),
    key: "timeout",
    value_name: "SECONDS",
    default: Some("5"),
    help: "Longest time to connect, and without progress while an echo is awaited; 0: no limit",
    allowed: ALLOWED_LIMIT,
    parse: parse_limit,
    switch: false,
};

/// Its part of the command line.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Test an echo server with many clients, every echo compared byte for byte")
        .args(SETTINGS.iter().map(|setting| setting.arg()))
        .args(Family::args())
}

/// Runs all clients and prints a line for each, then the totals.
///
/// # Errors
///
/// 64 without `--port`; what connecting reports if there is no server for the first client.
pub fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let port = context.layers.require(&PORT)?;
    let host = context.layers.require(&HOST)?;
    let clients = context.layers.require(&CLIENTS)?;
    let messages = context.layers.require(&MESSAGES)?;
    let timeout = context.layers.require(&TIMEOUT)?;
    let target = Target { host, port };
    let plan = Plan {
        target: &target,
        messages,
        limit: (!timeout.is_zero()).then_some(timeout),
        payloads: Payloads::random(),
        signals: context.signals,
    };
    let mut limit = Limit::start(timeout);
    let addresses = match resolve(&target, Family::of(context.matches), limit, context.signals) {
        Ok(addresses) => addresses,
        Err(ConnectError::Signal(signal)) => return Ok(stopped_by(signal, context.log)),
        Err(ConnectError::Failed(failure)) => return Err(failure),
    };
    let mut report = Report::new(clients, messages);
    let mut signal = None;
    for number in 1..=clients {
        let outcome = match connect(&target, &addresses, limit, context.signals) {
            Ok(stream) => client::run(&plan, number, stream),
            // A server that was never there is another thing than one that fails under load.
            Err(ConnectError::Failed(failure)) if number == 1 => return Err(failure),
            Err(ConnectError::Failed(failure)) => {
                Outcome { problem: Some(failure.message), ..Outcome::default() }
            }
            Err(ConnectError::Signal(came)) => {
                signal = Some(came);
                break;
            }
        };
        signal = outcome.signal;
        if print(report.add(&outcome).as_bytes())? == Stdout::Gone {
            return Ok(ExitCode::Success);
        }
        if signal.is_some() {
            break;
        }
        limit = Limit::start(timeout);
    }
    print(report.totals().as_bytes())?;
    Ok(match signal {
        Some(signal) => stopped_by(signal, context.log),
        None if report.has_failures() => ExitCode::Negative,
        None => ExitCode::Success,
    })
}
