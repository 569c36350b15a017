//! `trustctl`: echo service, echo client, load tester, checker and proxy for TCP byte streams.

use std::process::ExitCode;

fn main() -> ExitCode {
    trustctl::trustctl_main()
}
