//! How much an event matters.

/// How much an event matters; `--log-level` is the lowest one that is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Single steps.
    Debug,
    /// What normally happens.
    Info,
    /// What a peer or the network did wrong.
    Warn,
    /// What this program failed at.
    Error,
}

impl Level {
    /// Every level, the least important one first.
    pub const ALL: [Level; 4] = [Level::Debug, Level::Info, Level::Warn, Level::Error];

    /// The word in events and in `--log-level`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    /// The level with that name.
    pub fn parse(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }
}
