//! `trustctl`: echo service, echo client and load tester for TCP byte streams.

use std::process::ExitCode;

fn main() -> ExitCode {
    trustctl::trustctl_main()
}
