//! The outcomes of the contenders.

/// The outcome of a peer in a section.
#[derive(Debug)]
pub enum PeerOutcome<T> {
    /// Measured; one value per round.
    Measured(Vec<T>),
    /// Not run, and why.
    Skipped(String),
    /// It died, or answered wrong.
    Failed(String),
}

/// The result of one section of a run: an outcome for each peer.
pub type Rows<T> = Vec<(&'static str, PeerOutcome<T>)>;
