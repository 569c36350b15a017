//! What became of those that are compared.

/// What became of a peer in a section.
#[derive(Debug)]
pub enum PeerOutcome<T> {
    /// Measured; one value a round.
    Measured(Vec<T>),
    /// Not run, and why.
    Skipped(String),
    /// It died, or answered wrong.
    Failed(String),
}

/// What one section of a run found: for each peer an outcome.
pub type Rows<T> = Vec<(&'static str, PeerOutcome<T>)>;
