//! The list of commands.

use trust_cli::command::{Entry, Program};

use crate::config_show;
use crate::hold;
use crate::log_demo;
#[cfg(feature = "proxy")]
use crate::{toxiproxy_cli, toxiproxy_server};

/// Every command, in the order of `--help`.
const COMMANDS: &[Entry] = &[
    #[cfg(feature = "echo")]
    trust_echo::server::command::ENTRY,
    #[cfg(feature = "echo")]
    trust_echo::client::command::ENTRY,
    #[cfg(feature = "load")]
    trust_load::command::ENTRY,
    #[cfg(feature = "load")]
    trust_load::merge::command::ENTRY,
    #[cfg(feature = "check")]
    trust_check::command::ENTRY,
    #[cfg(feature = "check")]
    trust_check::compare::command::ENTRY,
    #[cfg(feature = "check")]
    trust_check::matrix::command::ENTRY,
    #[cfg(feature = "proxy")]
    trust_proxy::command::ENTRY,
    #[cfg(feature = "proxy")]
    toxiproxy_server::entry(|context| {
        trust_proxy::command::toxiproxy_server(context, toxiproxy_server::flags(context)?)
    }),
    #[cfg(feature = "proxy")]
    toxiproxy_cli::ENTRY,
    config_show::ENTRY,
    log_demo::ENTRY,
    hold::ENTRY,
];

/// What the words that only group commands are for.
const GROUPS: &[(&str, &str)] =
    &[("config", "Look at the settings"), ("log", "Write to the event log")];

/// The executables that stand for one of them.
const SHORT_NAMES: &[(&str, &str)] = &[
    #[cfg(feature = "echo")]
    ("echo-client", "echo-client"),
    #[cfg(feature = "load")]
    ("echo-load-test", "load"),
    #[cfg(feature = "proxy")]
    (toxiproxy_server::NAME, toxiproxy_server::NAME),
    #[cfg(feature = "proxy")]
    (toxiproxy_cli::NAME, toxiproxy_cli::NAME),
];

/// The program that has all of them.
pub const TRUSTCTL: Program = Program {
    name: "trustctl",
    about: "Echo service, echo client, load tester, checker and proxy for TCP byte streams",
    commands: COMMANDS,
    groups: GROUPS,
    short_names: SHORT_NAMES,
    only: None,
};
