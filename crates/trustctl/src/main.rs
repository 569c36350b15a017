//! trustctl.
fn main() {}
