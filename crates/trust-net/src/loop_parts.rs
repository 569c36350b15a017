//! What an event loop is made of, for the loops of `trustctl` beside the server's. It promises
//! nothing across versions.

pub use crate::accept::{AcceptPolicy, Accepted};
pub use crate::alarm::Alarm;
pub use crate::clock::Clock;
pub use crate::event_loop::note_event;
pub use crate::questions::{Questions, Registered};
