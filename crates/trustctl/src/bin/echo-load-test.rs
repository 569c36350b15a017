//! `echo-load-test`: the same as `trustctl load`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trustctl::short_main("echo-load-test")
}
