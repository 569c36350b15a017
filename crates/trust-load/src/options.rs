//! The settings of `trustctl load`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use trust_cli::exclusions::When::{Given, On};
use trust_cli::exclusions::{Exclusion, not_zero};
use trust_cli::framing::{self, Framing, NO_LENGTH, without_length};
use trust_cli::layers::{Layers, Source};
use trust_cli::settings::{AnySetting, Setting};
use trust_cli::target::{ALLOWED_HOST, ALLOWED_SERVER_PORT, parse_host, parse_server_port};
use trust_cli::values::{
    ALLOWED_COUNT, ALLOWED_LIMIT, ALLOWED_LIMIT_AT_ONCE, parse_count, parse_limit,
};

use crate::budget::{self, Budget};
use crate::schedule::Arrivals;
use crate::sizes::Sizes;
use crate::{shard, start_at};

/// The word that calls it.
pub const NAME: &str = "load";

/// Its settings.
pub const SETTINGS: &[&dyn AnySetting] = &[
    &HOST,
    &PORT,
    &CLIENTS,
    &MESSAGES,
    &TIMEOUT,
    &CONCURRENCY,
    &DURATION,
    &WARM_UP,
    &IN_FLIGHT,
    &RATE,
    &ARRIVALS,
    &THINK,
    &CONNECT_RATE,
    &MESSAGES_PER_CONNECTION,
    &SIZE,
    &FRAMING,
    &OFFSET,
    &ADJUST,
    &RAW,
    &MAX_FRAME,
    &SEED,
    &FAIL_IF,
    &FIND_RATE,
    &SHARD,
    &START_AT,
    &JSON,
    &CSV,
    &HDR_LOG,
    &HTML,
];

/// The settings that the sequential load has. Any other one takes the engine.
const SEQUENTIAL: [&str; 5] = ["host", "port", "clients", "messages", "timeout"];

/// Settings that cannot be used together.
pub const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(On(&JSON), On(&CSV), "both write to standard output"),
    Exclusion(On(&RAW), Given(&FRAMING), "raw is a framing of its own"),
    Exclusion(On(&RAW), not_zero(&OFFSET), "raw messages have no header"),
    Exclusion(On(&RAW), not_zero(&ADJUST), "raw messages have no header"),
    Exclusion(without_length(&FRAMING), not_zero(&OFFSET), NO_LENGTH),
    Exclusion(without_length(&FRAMING), not_zero(&ADJUST), NO_LENGTH),
    Exclusion(Given(&THINK), Given(&RATE), "an open loop does not wait for answers"),
    Exclusion(Given(&THINK), Given(&FIND_RATE), "an open loop does not wait for answers"),
    Exclusion(Given(&THINK), Given(&ARRIVALS), "a closed loop waits for answers"),
    Exclusion(Given(&FIND_RATE), Given(&SHARD), "shards cannot search together"),
    Exclusion(Given(&FIND_RATE), Given(&START_AT), "a search starts many runs"),
    Exclusion(Given(&FIND_RATE), On(&CSV), "a search has many runs"),
    Exclusion(Given(&FIND_RATE), Given(&HDR_LOG), "a search has many runs"),
    Exclusion(Given(&FIND_RATE), Given(&FAIL_IF), "a search has its own budgets"),
    Exclusion(Given(&CLIENTS), Given(&FIND_RATE), "each trial of a search lasts --duration"),
    Exclusion(Given(&MESSAGES), Given(&FIND_RATE), "each trial of a search lasts --duration"),
    Exclusion(Given(&DURATION), Given(&CLIENTS), ONE_LENGTH),
    Exclusion(Given(&DURATION), Given(&MESSAGES), ONE_LENGTH),
];

const ONE_LENGTH: &str =
    "a run is as long as one of them says; --concurrency is the number of clients at the same time";

/// Whether nothing was asked for but what the sequential load has.
pub fn is_sequential(layers: &Layers) -> bool {
    SETTINGS
        .iter()
        .filter(|setting| !SEQUENTIAL.contains(&setting.key()))
        .all(|setting| layers.source(*setting) <= Source::Default)
}

/// The server's name or address.
pub const HOST: Setting<String> = Setting::of(
    NAME,
    "host",
    "HOST",
    Some("localhost"),
    "The server's name or address",
    ALLOWED_HOST,
    parse_host,
);
/// The server's port.
pub const PORT: Setting<u16> = Setting::of(
    NAME,
    "port",
    "PORT",
    None,
    "The server's port; required",
    ALLOWED_SERVER_PORT,
    parse_server_port,
);
/// How many clients.
pub const CLIENTS: Setting<u64> = Setting::of(
    NAME,
    "clients",
    "N",
    Some("1"),
    "Clients, one after the other unless --concurrency says otherwise, each with its own connection [with --concurrency: as \
     many]",
    ALLOWED_COUNT,
    parse_count,
);
/// Messages of each.
pub const MESSAGES: Setting<u64> = Setting::of(
    NAME,
    "messages",
    "M",
    Some("10"),
    "Messages of each client, one at a time unless --in-flight or --rate says otherwise",
    ALLOWED_COUNT,
    parse_count,
);
/// Longest wait.
pub const TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "timeout",
    "SECONDS",
    Some("5"),
    "Longest time to connect, and without progress while an echo is awaited; 0: no limit",
    ALLOWED_LIMIT,
    parse_limit,
);
/// Clients at the same time.
pub const CONCURRENCY: Setting<u64> = Setting::of(
    NAME,
    "concurrency",
    "C",
    Some("1"),
    "Clients at the same time",
    "a whole number from 1 to 1000000",
    |text| parse_count(text).filter(|count| *count <= 1_000_000),
);
/// For how long messages are sent.
pub const DURATION: Setting<Duration> = Setting::of(
    NAME,
    "duration",
    "SECONDS",
    None,
    "Send for this time, in place of a number of clients and messages; a client that fails connects anew after 0.1 s",
    ALLOWED_POSITIVE,
    parse_positive,
);
/// What is not measured at the begin.
pub const WARM_UP: Setting<Duration> = Setting::of(
    NAME,
    "warm-up",
    "SECONDS",
    Some("0"),
    "Send for this time before measuring begins; bytes are compared and errors counted all the same",
    "a number of seconds, 0 (none) or at least 0.001",
    parse_limit,
);
/// Messages on the way.
pub const IN_FLIGHT: Setting<u64> = Setting::of(
    NAME,
    "in-flight",
    "K",
    None,
    "Most messages on the way at once on a connection [default: 1; with --rate or --find-rate 100]",
    "a whole number from 1 to 100000",
    |text| parse_count(text).filter(|count| *count <= 100_000),
);
/// Messages a second.
pub const RATE: Setting<f64> = Setting::of(
    NAME,
    "rate",
    "R",
    None,
    "Messages a second of all clients together, due at their times whatever the server does: an open loop",
    ALLOWED_RATE,
    parse_rate,
);
/// How they lie in time.
pub const ARRIVALS: Setting<Arrivals> = Setting::of(
    NAME,
    "arrivals",
    "KIND",
    Some("constant"),
    "How the messages of an open loop lie in time: the same time apart, or as independent users come",
    Arrivals::ALLOWED,
    Arrivals::parse,
);
/// Pause of a client.
pub const THINK: Setting<Duration> = Setting::of(
    NAME,
    "think",
    "SECONDS",
    Some("0"),
    "Time from an answer to the next message of a closed loop",
    ALLOWED_LIMIT_AT_ONCE,
    parse_limit,
);
/// Connections a second.
pub const CONNECT_RATE: Setting<f64> = Setting::of(
    NAME,
    "connect-rate",
    "R",
    None,
    "New connections a second at most; clients send as soon as they are connected then, and else all together",
    ALLOWED_RATE,
    parse_rate,
);
/// Messages after which a connection is closed.
pub const MESSAGES_PER_CONNECTION: Setting<u64> = Setting::of(
    NAME,
    "messages-per-connection",
    "K",
    None,
    "Close a connection after so many messages and make another one",
    ALLOWED_COUNT,
    parse_count,
);
/// Sizes of payloads.
pub const SIZE: Setting<Sizes> = Setting::of(
    NAME,
    "size",
    "BYTES",
    Some("64"),
    "Size of the payloads: one, any of a range, or each of a list equally often",
    Sizes::ALLOWED,
    Sizes::parse,
);
/// How the server tells messages apart.
pub const FRAMING: Setting<Framing> = framing::setting(NAME);
/// Bytes in front of the length field.
pub const OFFSET: Setting<u16> = framing::offset_setting(NAME);
/// Added to the length field's value.
pub const ADJUST: Setting<i64> = framing::adjust_setting(NAME);
/// No framing at all.
pub const RAW: Setting<bool> =
    Setting::switch(NAME, "raw", "Bytes without any framing, as --framing raw");
/// The server's limit.
pub const MAX_FRAME: Setting<u64> = Setting::of(
    NAME,
    "max-frame",
    "BYTES",
    Some("65536"),
    "Largest payload that the server takes, inclusive; a larger --size is refused",
    ALLOWED_COUNT,
    parse_count,
);
/// Decides payloads and arrivals.
pub const SEED: Setting<u64> = Setting::of(
    NAME,
    "seed",
    "NUMBER",
    None,
    "Decides all payloads and random arrivals [default: another one each time]",
    "a whole number from 0",
    |text| text.parse().ok(),
);
/// Budgets.
pub const FAIL_IF: Setting<Vec<Budget>> = Setting::of_parts(
    NAME,
    "fail-if",
    "BUDGETS",
    "Exit with 1 if one of these is true, as p99>5ms,errors>0,rate<1000",
    "comparisons with commas between them, as p99>5ms,errors>0,rate<1000",
    budget::parse_fail_if,
);
/// Searches for the highest rate.
pub const FIND_RATE: Setting<Vec<Budget>> = Setting::of_parts(
    NAME,
    "find-rate",
    "BUDGETS",
    "Search for the highest rate at which these are true, as p99<5ms; --rate is where the search begins [default: 1000], and \
     --duration how long each trial takes [default: 5]",
    "comparisons with commas between them, as p99<5ms",
    budget::parse_find_rate,
);
/// Which part of the load this is.
pub const SHARD: Setting<shard::Choice> = Setting::of(
    NAME,
    "shard",
    "INDEX/COUNT",
    None,
    "Make this part of the load alone: its share of rate and clients; /COUNT takes the index from JOB_COMPLETION_INDEX",
    shard::Choice::ALLOWED,
    shard::Choice::parse,
);
/// When all parts start.
pub const START_AT: Setting<Timestamp> = Setting::of(
    NAME,
    "start-at",
    "TIME",
    None,
    "Start at this time, so that all shards start together; by how much it was missed is reported",
    start_at::ALLOWED,
    start_at::parse,
);
/// Whether the report is JSON.
pub const JSON: Setting<bool> =
    Setting::switch(NAME, "json", "Print one JSON document and nothing else");
/// Whether the report is CSV.
pub const CSV: Setting<bool> = Setting::switch(
    NAME,
    "csv",
    "Print a line of comma-separated values a second, and nothing else",
);
/// Where the histograms go.
pub const HDR_LOG: Setting<PathBuf> = Setting::file(
    NAME,
    "hdr-log",
    "Write an HdrHistogram interval log too, for trustctl load merge and other tools",
);
/// Where a report for people goes.
pub const HTML: Setting<PathBuf> =
    Setting::file(NAME, "html", "Write a page with charts too, which needs nothing else");

const ALLOWED_POSITIVE: &str = "a number of seconds of at least 0.001";

fn parse_positive(text: &str) -> Option<Duration> {
    parse_limit(text).filter(|time| !time.is_zero())
}

const ALLOWED_RATE: &str = "a number a second from 0.001 to 10000000";

/// A rate, with fractions. The bounds keep every time and every count of a run within what numbers hold.
fn parse_rate(text: &str) -> Option<f64> {
    // What Rust takes beside digits, as inf and nan, is none of these.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    text.parse().ok().filter(|rate| is_number && (0.001..=10_000_000.0).contains(rate))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn rates_are_numbers_above_0() {
        for (text, rate) in [("1", 1.0), ("0.5", 0.5), ("1e6", 1e6), ("10000000", 1e7)] {
            assert_eq!(parse_rate(text), Some(rate), "{text}");
        }
        for text in ["0", "-1", "", "nan", "inf", "1e8", "0.0001", "1/s", " 1"] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
    }

    #[test]
    fn any_setting_that_the_sequential_load_does_not_have_takes_the_engine() {
        let mut layers = Layers::default();
        assert!(is_sequential(&layers));
        layers.add_flag(&CLIENTS, OsStr::new("3")).expect("a count");
        assert!(is_sequential(&layers));
        layers.add_flag(&CONCURRENCY, OsStr::new("1")).expect("a count");
        assert!(!is_sequential(&layers));
    }
}
