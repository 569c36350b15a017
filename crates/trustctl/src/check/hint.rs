//! Which framing a server speaks that does not speak the one that was named.

use std::time::{Duration, Instant};

use crate::check::setup::Setup;
use crate::check::transcript::Transcript;
use crate::check::verdict::Judged;
use crate::check::wire::Wire;
use crate::framing::Framing;

/// Longest time for all tries.
const TRIES_MAX: Duration = Duration::from_secs(6);

/// Longest wait for the echo of one try, unless the run's patience is shorter.
const TRY_MAX: Duration = Duration::from_millis(300);

/// Narrow ones first: what a server with a narrow length field echoes looks right with a wide one too.
const NAMES: [&str; 20] = [
    "u8",
    "u16be",
    "u16le",
    "u24be",
    "u24le",
    "u32be",
    "u32le",
    "u64be",
    "u64le",
    "line",
    "raw",
    "u8+incl",
    "u16be+incl",
    "u16le+incl",
    "u24be+incl",
    "u24le+incl",
    "u32be+incl",
    "u32le+incl",
    "u64be+incl",
    "u64le+incl",
];

/// A payload without a newline, of which no part looks like the header of another part.
const HELLO: &[u8; 23] = b"which framing is right?";

/// Tries other framings and says which one comes back right. `None` if none does, or the run is to end, or the one that
/// was named does after all: then a wider one comes back too, as the server sees empty messages in front of it.
pub fn other_framing(setup: &Setup) -> Option<String> {
    let until = Instant::now() + TRIES_MAX;
    if is_served(setup) {
        return None;
    }
    for name in NAMES {
        let Some(framing) = Framing::parse(name).filter(|framing| *framing != setup.framing) else {
            continue;
        };
        if Instant::now() >= until {
            break;
        }
        if echoes(setup, &framing).ok()? {
            return Some(format!("it echoes with --framing {name}"));
        }
    }
    None
}

/// Whether a message of the framing that was named comes back after all.
pub fn is_served(setup: &Setup) -> bool {
    echoes(setup, &setup.framing).unwrap_or(false)
}

/// Whether one message of that framing comes back, and nothing else.
fn echoes(setup: &Setup, framing: &Framing) -> Judged<bool> {
    let message = framing.encode(HELLO);
    let patience = TRY_MAX.min(setup.patience);
    let Ok(mut wire) = Wire::connect(setup, 1, &Transcript::default()) else { return Ok(false) };
    wire.try_send(&message, patience)?;
    let mut got = vec![];
    while got.len() < message.len() && message.starts_with(&got) {
        if !wire.receive_into(&mut got, message.len(), patience)? {
            break;
        }
    }
    Ok(got == message && wire.expect_no_more().is_ok())
}
