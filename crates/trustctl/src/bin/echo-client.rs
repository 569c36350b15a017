//! `echo-client`: the same as `trustctl echo-client`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trustctl::short_main("echo-client")
}
