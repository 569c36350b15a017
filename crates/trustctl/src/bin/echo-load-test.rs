//! `echo-load-test`: the same as `trustctl load`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trustctl::echo_load_test_main()
}
