//! The flags of `trustctl check compare`.

use std::path::PathBuf;

use trust_cli::{options, values};

/// The words that call it.
pub const NAME: &str = "check compare";

options! {
    /// Options of `trustctl check compare`, one field per flag.
    pub struct CompareOptions of "check-compare" {
        /// Print one JSON document and nothing else
        JSON json: bool = off, values::SWITCH;
        /// Write a JUnit XML report too
        JUNIT junit: PathBuf, values::FILE;
        /// Write a page with the transcripts of both sides too
        ///
        /// It is one file and loads no other.
        HTML html: PathBuf, values::FILE;
    }
}
