//! Payloads that no other client, message or run has.

use std::hash::{BuildHasher, RandomState};

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
        let mut state = self.seed ^ mix(client) ^ mix(message.wrapping_add(GAMMA));
        while payload.len() < LEN {
            state = state.wrapping_add(GAMMA);
            payload.extend_from_slice(&mix(state).to_le_bytes());
        }
        payload.truncate(LEN);
        payload
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
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
