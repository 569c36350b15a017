//! Properties of everything that reads outside data, as functions of bytes that a fuzzer chooses.
//!
//! A target takes any bytes and panics when a property does not hold. `fuzz/` puts each of them into a fuzzer, and
//! `tests/corpus.rs` replays what fuzzing has found worth keeping.
#![forbid(unsafe_code)]

pub mod answer;
pub mod choices;
pub mod client_conversation;
pub mod client_input;
pub mod config_file;
pub mod connection;
pub mod decoder;
pub mod event_line;
pub mod foreign;
pub mod format_decoder;
pub mod hdr_log;
mod oneline;
pub mod proxy_header;
pub mod settings_values;

/// A function that takes any bytes, and panics when a property does not hold for them.
pub type Target = fn(&[u8]);

/// Every target by its name, which its shell in `fuzz/fuzz_targets` and its corpus in `fuzz/corpus` have too.
pub const TARGETS: &[(&str, Target)] = &[
    ("answer", answer::run),
    ("client_conversation", client_conversation::run),
    ("client_input", client_input::run),
    ("config_file", config_file::run),
    ("connection", connection::run),
    ("decoder", decoder::run),
    ("event_line", event_line::run),
    ("foreign", foreign::run),
    ("format_decoder", format_decoder::run),
    ("hdr_log", hdr_log::run),
    ("proxy_header", proxy_header::run),
    ("settings_values", settings_values::run),
];
