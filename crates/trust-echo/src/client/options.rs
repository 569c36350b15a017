//! The flags of `trustctl echo-client`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, value_parser};
use trust_cli::exclusions::Exclusion;
use trust_cli::exclusions::When::{Given, On};
use trust_cli::settings::{AnySetting, Setting};
use trust_cli::target::{Family, Target};
use trust_cli::values::{
    ALLOWED_LIMIT, ALLOWED_LIMIT_AT_ONCE, ALLOWED_SIZE, parse_limit, parse_size,
};

/// The word that calls it.
pub(crate) const NAME: &str = "echo-client";

/// Its settings.
pub(crate) const SETTINGS: &[&dyn AnySetting] =
    &[&PAYLOAD_SIZE, &CHUNK, &RAW, &INTERVAL, &MAX_FRAME, &TIMEOUT];

pub(crate) const PAYLOAD_SIZE: Setting<u32> = Setting::of(
    NAME,
    "payload-size",
    "BYTES",
    None,
    "Send one generated frame with a payload of this size; from 16777216 on, a server in auto mode \
           takes it for raw bytes",
    ALLOWED_SIZE,
    parse_size,
);

pub(crate) const CHUNK: Setting<u32> = Setting::of(
    NAME,
    "chunk",
    "BYTES",
    None,
    "Send standard input in frames of this size; print exactly the echoed bytes",
    "a whole number of bytes from 1 to 4294967295",
    |text| parse_size(text).filter(|size| *size > 0),
);

pub(crate) const RAW: Setting<bool> = Setting::switch(
    NAME,
    "raw",
    "Send standard input without frames, half-close when it ends, read to the end",
);

pub(crate) const INTERVAL: Setting<Duration> = Setting::of(
    NAME,
    "interval",
    "SECONDS",
    None,
    "Repeat the messages so often, with round-trip times on stderr, until stopped",
    ALLOWED_LIMIT_AT_ONCE,
    parse_limit,
);

pub(crate) const MAX_FRAME: Setting<u32> = Setting::of(
    NAME,
    "max-frame",
    "BYTES",
    Some("65536"),
    "Longest line of standard input that is sent as a message",
    ALLOWED_SIZE,
    parse_size,
);

pub(crate) const TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "timeout",
    "SECONDS",
    Some("5"),
    "Longest time to connect, and without progress while an answer is owed; 0: no limit",
    ALLOWED_LIMIT,
    parse_limit,
);

/// Settings that cannot be used together.
pub(crate) const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(Given(&PAYLOAD_SIZE), Given(&CHUNK), ONE_INPUT),
    Exclusion(Given(&PAYLOAD_SIZE), On(&RAW), ONE_INPUT),
    Exclusion(Given(&CHUNK), On(&RAW), ONE_INPUT),
    Exclusion(Given(&INTERVAL), Given(&CHUNK), "standard input cannot be repeated"),
    Exclusion(Given(&INTERVAL), On(&RAW), "standard input cannot be repeated"),
];

pub(crate) const ONE_INPUT: &str = "each of them says what is sent";

/// What it takes beside its settings.
pub(crate) fn arguments() -> Vec<Arg> {
    let messages = Arg::new("messages")
        .value_name("MESSAGE")
        .help("Messages, a frame each; without any, each line of standard input is one")
        .num_args(0..)
        .value_parser(value_parser!(OsString));
    let family = Family::args();
    [Target::arg().required(true), messages].into_iter().chain(family).collect()
}
