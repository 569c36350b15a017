//! The flags of `trustctl check matrix`.

use std::path::PathBuf;

use trust_cli::{options, values};

/// The words that call it.
pub const NAME: &str = "check matrix";

options! {
    /// Options of `trustctl check matrix`, one field per flag.
    pub struct MatrixOptions of "check-matrix" {
        /// Write a page with the table and all transcripts too
        ///
        /// It is one file and loads no other.
        HTML html: PathBuf, values::FILE;
    }
}
