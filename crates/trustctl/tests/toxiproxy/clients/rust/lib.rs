//! Nothing: cargo tests what the manifest depends on.
