//! The settings of all commands.

use std::path::PathBuf;

use crate::event_text::LogFormat;
use crate::level::Level;
use crate::options;
use crate::settings::ValueKind;
use crate::values::{FILE, parse_path, parse_text};

options! {
    /// Options of all commands.
    pub struct GlobalOptions {
        /// Directory of config.toml and the log [default: ~/.trustctl]
        TRUST_HOME trust_home: PathBuf, ValueKind::of_bytes("DIR", "a directory name", parse_path);

        /// Identity of this run in every event [default: generated]
        REQUEST_ID request_id: String,
            ValueKind::of_text("ID", "a text of 1 to 1024 bytes", |text| {
                parse_text(text).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX)
            });

        /// Lowest level of events that are written: debug, info, warn or error
        LOG_LEVEL log_level: Level = "info",
            ValueKind::of_text("LEVEL", "debug, info, warn or error", Level::parse);

        /// Form of the events on standard output: json, text, or auto, which is text on a terminal
        LOG_FORMAT log_format: LogFormat = "json",
            ValueKind::of_text("FORMAT", "json, text or auto", LogFormat::parse);

        /// File that events are appended to, or none [default: logs/trustctl.log in the home]
        LOG_FILE log_file: PathBuf,
            ValueKind { allowed: "a file name, or none", ..FILE.named("PATH") };
    }
}

/// Name of the configuration file in the home.
pub const CONFIG_FILE_NAME: &str = "config.toml";

/// The most bytes in one token of the command line.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// Long enough for any identity on the command line: if it is not UTF-8, each byte may become a
/// character of three bytes.
const REQUEST_ID_BYTES_MAX: usize = 3 * TOKEN_BYTES_MAX;
