//! The settings of all commands.

use std::path::PathBuf;

use crate::level::Level;
use crate::settings::{AnySetting, Parse, Setting, parse_path, parse_text};

/// The settings of all commands.
pub const GLOBALS: &[&dyn AnySetting] = &[&TRUST_HOME, &REQUEST_ID, &LOG_LEVEL, &LOG_FILE];

/// Name of the configuration file, in the home.
pub const CONFIG_FILE_NAME: &str = "config.toml";

/// Where the configuration file and the log are.
pub const TRUST_HOME: Setting<PathBuf> = Setting {
    command: None,
    key: "trust-home",
    value_name: "DIR",
    default: None,
    help: "Directory of config.toml and the log [default: ~/.trustctl]",
    allowed: "a directory name",
    parse: Parse::Bytes(parse_path),
    switch: false,
};

/// What tells the events of this run from others.
pub const REQUEST_ID: Setting<String> = Setting {
    command: None,
    key: "request-id",
    value_name: "ID",
    default: None,
    help: "Identity of this run in every event [default: generated]",
    allowed: "a text of 1 to 1024 bytes",
    parse: Parse::Text(|text| parse_text(text).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX)),
    switch: false,
};

/// Which events are written.
pub const LOG_LEVEL: Setting<Level> = Setting {
    command: None,
    key: "log-level",
    value_name: "LEVEL",
    default: Some("info"),
    help: "Lowest level of events that are written: debug, info, warn or error",
    allowed: "debug, info, warn or error",
    parse: Parse::Text(Level::parse),
    switch: false,
};

/// Where they are written to.
pub const LOG_FILE: Setting<PathBuf> = Setting {
    command: None,
    key: "log-file",
    value_name: "PATH",
    default: None,
    help: "File that events are appended to, or none [default: logs/trustctl.log in the home]",
    allowed: "a file name, or none",
    parse: Parse::Bytes(parse_path),
    switch: false,
};

/// Bytes that one token of the command line may have.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// As long as an identity on the command line can be, whose every byte may become a character of
/// three when it is not UTF-8.
const REQUEST_ID_BYTES_MAX: usize = 3 * TOKEN_BYTES_MAX;
