//! Properties of all code that reads outside data, as functions of bytes chosen by a fuzzer.
//!
//! A target takes any bytes and panics if a property does not hold. `fuzz/` wraps each of them in a
//! fuzzer, and `tests/corpus.rs` replays the inputs that were worth keeping.
#![forbid(unsafe_code)]

pub mod answer;
pub mod choices;
pub mod client_conversation;
pub mod client_input;
pub mod config_file;
pub mod connection;
pub mod decoder;
pub mod event_line;
pub mod exchange_file;
pub mod fault_rules;
pub mod foreign;
pub mod format_decoder;
pub mod hdr_log;
pub mod message_end;
mod oneline;
pub mod proposal;
pub mod proxy_header;
pub mod settings_values;
pub mod toxiproxy_api;

/// A function that takes any bytes, and panics if a property does not hold for them.
pub type Target = fn(&[u8]);

/// Every target with its name, which is also that of its wrapper in `fuzz/fuzz_targets` and its
/// corpus in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("answer", answer::run),
    ("client_conversation", client_conversation::run),
    ("client_input", client_input::run),
    ("config_file", config_file::run),
    ("connection", connection::run),
    ("decoder", decoder::run),
    ("event_line", event_line::run),
    ("exchange_file", exchange_file::run),
    ("fault_rules", fault_rules::run),
    ("foreign", foreign::run),
    ("format_decoder", format_decoder::run),
    ("hdr_log", hdr_log::run),
    ("message_end", message_end::run),
    ("proposal", proposal::run),
    ("proxy_header", proxy_header::run),
    ("settings_values", settings_values::run),
    ("toxiproxy_api", toxiproxy_api::run),
];
