//! One client after the other, a line for each.

use std::ffi::OsString;

use trust_cli::approach::Approach;
use trust_cli::command::Context;
use trust_cli::connect::connect;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::{Stdout, print};
use trust_cli::random::random_seed;
use trust_cli::signals::Stopped;
use trust_cli::target::Family;
use trust_cli::wait::Limit;

use crate::content::Content;
use crate::options::LoadOptions;
use crate::plan::target;
use crate::sequential::client::{self, Outcome, Plan};
use crate::sequential::report::Report;

/// Runs all clients and prints a line for each, then the totals.
///
/// # Errors
///
/// 64 without a server; what connecting reports if there is no server for the first client.
pub(crate) fn run(context: &mut Context<'_>, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let options = LoadOptions::of(context.layers);
    let (family, signals) = (Family::of(context.matches), context.signals);
    let target = target(context.layers, arguments, family)?;
    let LoadOptions { clients, messages, timeout, wait, send_proxy: preface, .. } = options;
    let plan = Plan {
        target: &target,
        messages,
        limit: (!timeout.is_zero()).then_some(timeout),
        preface,
        content: Content::of_bytes(random_seed()),
        signals: context.signals,
    };
    let approach = Approach { target: &target, family, timeout, wait, preface, signals };
    // A server that was never there is another thing than one that fails under load.
    let reached = match approach.reach() {
        Ok(reached) => reached,
        Err(stopped) => return context.end(stopped),
    };
    // All clients take the address that won, and none races again.
    let address = [reached.address.clone()];
    let mut report = Report::new(reached.address.clone(), preface, clients, messages);
    let (mut reached, mut signal) = (Some(reached), None);
    for number in 1..=clients {
        let connected = match reached.take() {
            Some(reached) => Ok(reached),
            None => connect(&target, &address, Limit::start(timeout), signals)
                .map(|connected| connected.introduced_by(preface.as_ref())),
        };
        let outcome = match connected.map_err(Stopped::from) {
            Ok(connected) => client::run(&plan, number, connected.stream),
            Err(Stopped::Signal(came)) => {
                signal = Some(came);
                break;
            }
            Err(failed) => Outcome { stop: Some(failed), ..Outcome::default() },
        };
        if print(report.add(&outcome).as_bytes())? == Stdout::Gone {
            return Ok(ExitCode::Success);
        }
        if let Some(Stopped::Signal(came)) = outcome.stop {
            signal = Some(came);
            break;
        }
    }
    print(report.totals().as_bytes())?;
    Ok(match signal {
        Some(signal) => context.stopped_by(signal),
        None if report.has_failures() => ExitCode::Negative,
        None => ExitCode::Success,
    })
}
