//! The severity of events.

/// The severity of an event; `--log-level` is the lowest one that is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Single steps.
    Debug,
    /// Normal operation.
    Info,
    /// Faults of a peer or the network.
    Warn,
    /// Failures of this program.
    Error,
}

impl Level {
    /// Every level, from least to most severe.
    pub const ALL: [Level; 4] = [Level::Debug, Level::Info, Level::Warn, Level::Error];

    /// Its name in events and in `--log-level`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    /// The level with this name.
    pub fn parse(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }
}
