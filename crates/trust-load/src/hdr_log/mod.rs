//! A run over time as an HdrHistogram interval log: one that other tools read, and theirs read
//! here.
//!
//! `docs/HDR-LOG.md` describes the format. Lines without a tag are the latency, those with
//! [`SERVICE_TAG`] the service time. What merging has to know of a run stands in two comments of
//! our own ([`Header`], [`End`]).

pub mod line;
pub mod note;
pub mod payload;
pub mod reader;
pub mod writer;

pub use line::Fields;
pub use note::{End, Header};
pub use payload::{Decoder, Precision};
pub use reader::{BadLog, Interval, Reader};
pub use writer::Writer;

/// The tag of lines with service times.
pub const SERVICE_TAG: &str = "service";

/// Seconds that a time can have, from 1970 or from the start: such a start and such a time together
/// fit 64 bits in nanoseconds.
pub const SECONDS_MAX: u64 = 1 << 33;

/// What a line's histogram is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Without a tag: the latency, or whatever another tool recorded.
    Latency,
    /// With [`SERVICE_TAG`]: the service time.
    Service,
}
