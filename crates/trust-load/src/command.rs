//! `trustctl load HOST:PORT`: echoes under load, every byte compared.

use std::ffi::OsString;

use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::target::{Family, Target};

use crate::concurrent;
use crate::options::{self, EXCLUSIONS, NAME, SETTINGS};
use crate::plan::check;
use crate::sequential;

const INTRODUCTION: &str = "\
Sends messages to an echo server and compares every byte that comes back.
With none but the first flags below it has one client after the other, a line
for each. Any other flag takes the engine: concurrent clients, in a
closed loop, where an answer lets the next message go, or in an open one,
where messages are due at fixed times and latency counts from then.

Examples:
  Ten clients, one after the other:
    trustctl load :9900 --clients 10
  50 concurrent clients, each as fast as answers come:
    trustctl load :9900 --concurrency 50 --duration 10
  20,000 messages per second, and a failure if one in a hundred takes long:
    trustctl load :9900 --concurrency 50 --duration 10 --rate 20000 \\
      --fail-if 'p99>5ms,errors>0'
  How many a second can it take?
    trustctl load :9900 --concurrency 50 --find-rate 'p99<5ms'

docs/LOAD.md explains what is measured and how to read it.
";

/// The command.
pub const ENTRY: Entry = Entry {
    example: "localhost:9900 --concurrency 50 --duration 10s",
    introduction: INTRODUCTION,
    settings: SETTINGS,
    exclusions: EXCLUSIONS,
    check,
    arguments: || [Target::arg().num_args(0..)].into_iter().chain(Family::args()).collect(),
    ..Entry::new(
        NAME,
        "Load an echo server with many clients, every echo compared byte for byte",
        Product::Output,
        run,
    )
};

/// Runs the load.
///
/// # Errors
///
/// 64 for settings that do not go together; what connecting reports if there is no server for the
/// first client; 71 if this system has too few descriptors; 73 and 74 for files.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let arguments = context.matches.get_many::<OsString>("server").unwrap_or_default();
    let arguments: Vec<OsString> = arguments.cloned().collect();
    if options::is_sequential(context.layers) {
        sequential::command::run(context, &arguments)
    } else {
        concurrent::run(context, &arguments)
    }
}
