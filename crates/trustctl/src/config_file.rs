//! `config.toml`.
use std::collections::HashMap;
use std::ffi::OsString;

/// What a configuration file says.
#[derive(Default)]
pub struct ConfigFile {
    /// The text of each setting, by its command and key.
    pub values: HashMap<(Option<&'static str>, &'static str), OsString>,
}
