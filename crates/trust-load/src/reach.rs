//! The first connection of a run: the server is there.

use std::net::SocketAddr;

use trust_cli::command::Context;
use trust_cli::connect::{Connected, connect};
use trust_cli::signals::Stopped;
use trust_cli::wait::Limit;

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
    let connected = connect(&plan.target, addresses, limit, context.signals)?;
    let Connected { stream, address, took } = connected;
    Ok(Reached { address, first: First { stream, took } })
}
