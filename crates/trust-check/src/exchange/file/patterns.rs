//! Patterns in a table of an exchange file.

use trust_cli::exchange_file::fields::{Fields, Mistake};

use crate::exchange::pattern::Pattern;

/// Reads patterns from a table.
pub(super) trait PatternFields {
    /// A pattern.
    fn pattern(&self, key: &str) -> Result<Option<Pattern>, Mistake>;

    /// The patterns of a list; none if the key is missing.
    fn patterns(&self, key: &str) -> Result<Vec<Pattern>, Mistake>;
}

impl PatternFields for Fields<'_> {
    fn pattern(&self, key: &str) -> Result<Option<Pattern>, Mistake> {
        let Some(text) = self.text(key, "a pattern")? else { return Ok(None) };
        Pattern::parse(text).map(Some).map_err(|message| self.mistake(key, &*message))
    }

    fn patterns(&self, key: &str) -> Result<Vec<Pattern>, Mistake> {
        self.list(key, "a list of patterns", Pattern::parse)
    }
}
