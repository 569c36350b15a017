//! Payloads that no other client, message or run has.

use std::hash::{BuildHasher, RandomState};

use trust_cli::random::{GAMMA, SplitMix, mix};

/// Bytes of a payload: its name and at least as many random bytes as tell two runs apart.
const LEN: usize = 96;

/// A source of payloads; every run has its own.
#[derive(Clone, Copy, Debug)]
pub struct Payloads {
    seed: u64,
}

impl Payloads {
    /// Payloads that the given seed decides.
    pub fn new(seed: u64) -> Payloads {
        Payloads { seed }
    }

    /// Payloads with a seed from the system's randomness.
    pub fn random() -> Payloads {
        Payloads::new(RandomState::new().hash_one("seed"))
    }

    /// What the client sends as that message. The front is readable in a packet dump, the rest has
    /// any byte.
    pub fn payload(&self, client: u64, message: u64) -> Vec<u8> {
        let mut payload = format!("client {client} message {message} ").into_bytes();
        let seed = self.seed ^ mix(client) ^ mix(message.wrapping_add(GAMMA));
        let mut random = SplitMix::new(seed);
        while payload.len() < LEN {
            payload.extend_from_slice(&random.next_u64().to_le_bytes());
        }
        payload.truncate(LEN);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_payloads_are_the_same() {
        let mut seen = HashSet::new();
        for seed in 0..3 {
            for client in 1..30 {
                for message in 1..30 {
                    assert!(seen.insert(Payloads::new(seed).payload(client, message)));
                }
            }
        }
    }

    #[test]
    fn a_payload_begins_with_its_name_and_depends_on_nothing_else() {
        let payload = Payloads::new(7).payload(3, 12);
        assert!(payload.starts_with(b"client 3 message 12 "));
        assert_eq!(payload, Payloads::new(7).payload(3, 12));
        assert_eq!(Payloads::new(7).payload(u64::MAX, u64::MAX).len(), LEN);
    }
}
