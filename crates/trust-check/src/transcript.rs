//! What went over the wires of a case, with times.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Entries that are kept per case; later ones are only counted. Enough for every case that is not a
/// flood.
const ENTRIES_MAX: usize = 400;

/// Bytes that are kept of each send or receive: a header and the beginning of a payload.
const BYTES_KEPT: usize = 64;

/// What went over the wires of a case. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Transcript(Arc<Recorder>);

#[derive(Debug)]
struct Recorder {
    started: Instant,
    state: Mutex<Log>,
}

/// The entries of a transcript.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// In the order of time.
    pub entries: Vec<TranscriptEntry>,
    /// Entries that were not kept, most of which came after the others.
    pub left_out: u64,
}

/// Something that happened on a wire.
#[derive(Clone, Debug)]
pub struct TranscriptEntry {
    /// Since the case began.
    pub at: Duration,
    /// Which connection, from 1; 0 for the case itself.
    pub connection: u32,
    /// What happened.
    pub what: What,
}

/// What happened on a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The connection was made.
    Connected,
    /// The PROXY header was handed to our kernel.
    SentPreface(Excerpt),
    /// Bytes of the stream after it were.
    Sent(Excerpt),
    /// The kernel of the first hop had acknowledged everything, and we sent nothing for that long.
    LeftAlone(Duration),
    /// The peer of our unix socket has read everything, and was left alone with it for that long.
    ReadAndLeftAlone(Duration),
    /// Bytes came.
    Received(Excerpt),
    /// The server's FIN came.
    ReceivedFin,
    /// The server's RST came.
    ReceivedReset,
    /// We sent FIN.
    SentFin,
    /// We sent RST.
    SentReset,
    /// We closed.
    Closed,
    /// Nothing came for that long.
    Silence(Duration),
    /// What the case says.
    Note(String),
}

/// The beginning of some bytes, and how many they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// How many.
    pub len: usize,
    /// The first of them; none if they are secret.
    pub first: Vec<u8>,
    /// Whether they are not to be shown.
    pub is_secret: bool,
}

impl Excerpt {
    /// Keeps the beginning.
    pub fn of(bytes: &[u8]) -> Excerpt {
        let first = bytes[..bytes.len().min(BYTES_KEPT)].to_vec();
        Excerpt { len: bytes.len(), first, is_secret: false }
    }

    /// Keeps the number of bytes alone, and none of them.
    pub fn of_secret(len: usize) -> Excerpt {
        Excerpt { len, first: vec![], is_secret: true }
    }
}

impl Default for Transcript {
    fn default() -> Transcript {
        Transcript(Arc::new(Recorder { started: Instant::now(), state: Mutex::default() }))
    }
}

impl Transcript {
    /// Adds an entry of this moment.
    pub fn add(&self, connection: u32, what: What) {
        let mut log = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that entries of several threads are in the order of time.
        let at = self.0.started.elapsed();
        match log.entries.len() < ENTRIES_MAX {
            true => log.entries.push(TranscriptEntry { at, connection, what }),
            false => log.left_out += 1,
        }
    }

    /// Forgets a connection on which all went well, to have room for others: once much is kept.
    pub fn make_room(&self, connection: u32) {
        let mut log = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if log.entries.len() > ENTRIES_MAX / 2 {
            let before = log.entries.len();
            log.entries.retain(|entry| entry.connection != connection);
            log.left_out += (before - log.entries.len()) as u64;
        }
    }

    /// What there is by now.
    pub fn log(&self) -> Log {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_kept_though_much_went_well_before() {
        let transcript = Transcript::default();
        for connection in 1..=200 {
            for _ in 0..4 {
                transcript.add(connection, What::Connected);
            }
            // The last one goes wrong.
            if connection < 200 {
                transcript.make_room(connection);
            }
        }
        let Log { entries, left_out } = transcript.log();
        let last = entries.iter().filter(|entry| entry.connection == 200).count();
        assert_eq!((last, entries.len() as u64 + left_out), (4, 800));
        assert!(entries.len() > 100, "{}", entries.len());
    }
}
