//! What cargo and libtest pass to every test target.

/// Arguments of libtest that change nothing in suites that do without libtest.
pub(crate) const SWITCHES_WITHOUT_EFFECT: [&str; 9] = [
    "--nocapture",
    "--no-capture",
    "--show-output",
    "--quiet",
    "-q",
    "--exact",
    "--include-ignored",
    "--test",
    "--report-time",
];

/// Arguments of libtest that take a value and change nothing in suites that do without libtest.
pub(crate) const OPTIONS_WITHOUT_EFFECT: [&str; 5] =
    ["--test-threads", "--color", "--format", "--logfile", "-Z"];
