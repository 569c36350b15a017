//! The first connection of a run: the server is there.

use std::net::SocketAddr;
use std::time::Instant;

use trust_cli::command::Context;
use trust_cli::connect::{Limit, connect};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::signals::Stopped;
use trust_cli::text::reason;

use crate::engine::First;
use crate::plan::Plan;

/// The server's address, and a connection to it that is there.
pub(crate) struct Reached {
    pub(crate) address: SocketAddr,
    pub(crate) first: First,
}

/// Connects to the server.
///
/// # Errors
///
/// As the command's.
pub(crate) fn reach(
    context: &Context<'_>,
    plan: &Plan,
    addresses: &[SocketAddr],
) -> Result<Reached, Stopped> {
    let limit = Limit::start(plan.options.timeout);
    let begun = Instant::now();
    let stream = connect(&plan.target, addresses, limit, context.signals)?;
    let took = begun.elapsed();
    let address = stream.peer_addr().map_err(|error| {
        let message = format!("cannot connect to {}: {}", plan.target, reason(&error));
        Failure::new(ExitCode::Unavailable, message)
    })?;
    Ok(Reached { address, first: First { stream, took } })
}
