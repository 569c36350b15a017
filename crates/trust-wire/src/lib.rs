//! Length-prefix framing and the life of a TCP connection, without I/O.
//!
//! TCP carries a stream of bytes, not messages (RFC 9293, section 3.8). This crate turns the stream
//! into messages and decides how a connection ends. It opens no socket, reads no clock and prints
//! nothing: bytes and the time go in; whole frames, deadlines and closing steps come out. The event
//! loop, the blocking server, the clients and the simulator all run this same code.
//!
//! - [`frame`]: what is on the wire
//! - [`decoder`]: from received bytes to whole frames, in place
//! - [`format`]: where other protocols put the length, and what it counts
//! - [`message_end`]: where a message ends, in protocols of all kinds
//! - [`foreign`]: recognises other protocols by the first bytes of a stream
//! - [`proxy_header`]: which client a proxy is connecting for
//! - [`connection`]: states, owed bytes and deadlines of one connection
//! - [`turn`]: one turn of a connection, step by step
//! - [`relay`]: what passes between two connections, and how the end of one goes on
//! - [`closing`]: the orderly close
//! - [`limits`]: the limits that a server sets for its connections
//! - [`disconnect`]: why a connection ended
//! - [`time`]: the monotonic time, passed in by callers
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod closing;
pub mod connection;
pub mod decoder;
pub mod disconnect;
pub mod foreign;
pub mod format;
pub mod frame;
pub mod limits;
pub mod message_end;
mod owed;
pub mod proxy_header;
pub mod relay;
pub mod time;
pub mod turn;

pub use connection::{CloseStep, Connection, Phase, Probe, Received, Totals};
pub use decoder::{Decoded, Decoder};
pub use disconnect::{Disconnect, During, ErrnoClass, Reason};
pub use foreign::{Opening, Protocol};
pub use format::{BadLength, CannotSay, Format, LengthFormat};
pub use frame::{DEFAULT_MAX_PAYLOAD, Frames, HEADER_LEN, U32Be};
pub use limits::{LIFETIME_GRACE, Limits, Mode};
pub use message_end::{CountedLine, Found, MessageEnd};
pub use proxy_header::{BadProxyHeader, EncodedProxyHeader, ProxyHeader, ProxyVersion};
pub use relay::{Relay, RelayTurn};
pub use time::Timestamp;
pub use turn::{Readiness, Turn};

/// Compiles and runs the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
