//! The form of every message to a user.

use trust_cli::exit_code::{ExitCode, Failure};

/// The most characters in a message: a quoted value has 200, and the list of valid ones not many
/// more.
const MESSAGE_CHARACTERS_MAX: usize = 2000;

/// Panics unless the failure has this exit code and its message is one readable line.
pub(crate) fn check_failure(failure: &Failure, exit: ExitCode) {
    assert_eq!(failure.exit, exit, "{}", failure.message);
    check_line(&failure.message);
}

/// Panics unless it is one line of bounded length that is not empty and contains no control
/// characters.
pub(crate) fn check_line(text: &str) {
    assert!(!text.trim().is_empty(), "an empty message");
    assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
    assert!(text.chars().count() <= MESSAGE_CHARACTERS_MAX, "too long: {text:?}");
}
