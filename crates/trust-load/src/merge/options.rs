//! The flags of `trustctl load merge`.

use std::path::PathBuf;

use trust_cli::settings::{AnySetting, Setting};

use crate::budget::{self, Budget};

/// The words that call it.
pub(crate) const NAME: &str = "load merge";

/// Its settings.
pub(crate) const SETTINGS: &[&dyn AnySetting] = &[&JSON, &HDR_LOG, &FAIL_IF];

const TABLE: &str = "load-merge";

pub(crate) const JSON: Setting<bool> =
    Setting::switch(TABLE, "json", "Print one JSON document and nothing else");

pub(crate) const HDR_LOG: Setting<PathBuf> =
    Setting::file(TABLE, "hdr-log", "Write a log with the intervals of all logs too");

pub(crate) const FAIL_IF: Setting<Vec<Budget>> = Setting::of_parts(
    TABLE,
    "fail-if",
    "BUDGETS",
    "Exit with 1 if one of these is true of all logs together, as p99>5ms,errors>0,rate<1000",
    "comparisons with commas between them, as p99>5ms,errors>0,rate<1000",
    budget::parse_of_logs,
);
