//! `trustctl`: echo service, echo client, load tester and checker for TCP byte streams.

use std::process::ExitCode;

fn main() -> ExitCode {
    trustctl::trustctl_main()
}
