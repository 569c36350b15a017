//! Random choices that can be made again.

/// A random number that depends on these two alone (SplitMix64: Steele, Lea, Flood: Fast splittable
/// pseudorandom number generators, 2014).
pub const fn draw(seed: u64, number: u64) -> u64 {
    let state = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
