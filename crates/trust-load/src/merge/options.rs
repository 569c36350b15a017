//! The flags of `trustctl load merge`.

use std::path::PathBuf;

use trust_cli::settings::ValueKind;
use trust_cli::{options, values};

use crate::budget::{self, Budget};

/// The words that call it.
pub(crate) const NAME: &str = "load merge";

options! {
    /// Options of `trustctl load merge`, one field per flag.
    pub(crate) struct MergeOptions of "load-merge" {
        /// Print one JSON document and nothing else
        JSON json: bool = off, values::SWITCH;
        /// Write a log with the intervals of all logs too
        HDR_LOG hdr_log: PathBuf, values::FILE;
        /// Exit with 1 if one of these is true of all logs together, as p99>5ms,errors>0,rate<1000
        FAIL_IF fail_if: Vec<Budget>, ValueKind::of_parts(
            "BUDGETS",
            "comparisons with commas between them, as p99>5ms,errors>0,rate<1000",
            budget::parse_of_logs,
        );
    }
}
