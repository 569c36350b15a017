//! The settings of `trustctl load`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use trust_cli::exclusions::When::{Given, On};
use trust_cli::exclusions::{Exclusion, not_zero};
use trust_cli::exit_code::Failure;
use trust_cli::framing::{self, Framing, NO_LENGTH, without_length};
use trust_cli::layers::{Layers, Source};
use trust_cli::options;
use trust_cli::quantity::{RATES, with_unit};
use trust_cli::send_proxy::SEND_PROXY as PREFACE;
use trust_cli::settings::ValueKind;
use trust_cli::target::{self, ServerSettings, ServerWord};
use trust_cli::values::{self, COUNT, parse_up_to};
use trust_net::preface::ProxyPreface;

use crate::budget::{self, Budget};
use crate::schedule::Arrivals;
use crate::sizes::Sizes;
use crate::{shard, start_at};

/// The word that calls it.
pub const NAME: &str = "load";

options! {
    /// Options of `trustctl load`, one field per flag.
    pub struct LoadOptions of "load" {
        /// The server's name or address, perhaps with its port, in place of HOST:PORT
        HOST host: ServerWord = "localhost", target::HOST;
        /// The server's port, in place of HOST:PORT
        PORT port: u16, target::SERVER_PORT;
        /// Clients, one after the other unless --concurrency says otherwise, each with its own
        /// connection [with --concurrency: as many]
        CLIENTS clients: u64 = "1", COUNT.named("N");
        /// Messages of each client, one at a time unless --in-flight or --rate says otherwise
        MESSAGES messages: u64 = "10", COUNT.named("M");
        /// Longest time to connect, and without progress while an echo is awaited; 0: no limit
        TIMEOUT timeout: Duration = "5s", values::LIMIT;
        /// Time to try again while no server is there: refused, unreachable, or its name unknown
        WAIT wait: Duration = "0", values::OPTIONAL_TIME;
        /// Send a PROXY protocol header first on each connection, as a balancer does: for its own
        /// address, or for SRC
        SEND_PROXY send_proxy: ProxyPreface, PREFACE;
        /// Longest time from sending a message to the last byte of its echo, whatever comes
        /// meanwhile; 0: no limit
        ANSWER_TIMEOUT answer_timeout: Duration = "0", values::LIMIT;
        /// Clients at the same time
        CONCURRENCY concurrency: u64 = "1",
            ValueKind::of_text("C", "a whole number from 1 to 1000000", parse_up_to::<1_000_000>);
        /// Send for this time, in place of a number of clients and messages; a client that fails
        /// connects anew after 0.1 s
        DURATION duration: Duration, values::TIME;
        /// Longest wait for the last answers of --duration or of a trial of --find-rate; what has
        /// not come back then counts as unanswered [default: --timeout, but at most 5s]
        GRACE grace: Duration, values::DELAY;
        /// Send for this time before measuring begins; bytes are compared and errors counted all
        /// the same
        WARM_UP warm_up: Duration = "0", values::OPTIONAL_TIME;
        /// Most messages on the way at once on a connection [default: 1; with --rate or --find-rate
        /// 100]
        IN_FLIGHT in_flight: u64,
            ValueKind::of_text("K", "a whole number from 1 to 100000", parse_up_to::<100_000>);
        /// Messages a second of all clients together, due at their times whatever the server does:
        /// an open loop
        RATE rate: f64, PER_SECOND;
        /// How the messages of an open loop lie in time: the same time apart, or as independent
        /// users come
        ARRIVALS arrivals: Arrivals = "constant",
            ValueKind::of_text("KIND", Arrivals::ALLOWED, Arrivals::parse);
        /// Time from an answer to the next message of a closed loop
        THINK think: Duration = "0", values::DELAY;
        /// New connections a second at most; clients send as soon as they are connected then, and
        /// else all together
        CONNECT_RATE connect_rate: f64, PER_SECOND;
        /// Close a connection after so many messages and make another one
        MESSAGES_PER_CONNECTION messages_per_connection: u64, COUNT.named("K");
        /// Size of the payloads: one, any of a range, or each of a list equally often
        SIZE size: Sizes = "64", ValueKind::of_text("SIZES", Sizes::ALLOWED, Sizes::parse);
        /// How the server tells messages apart: the length field's width and order, +incl if the
        /// length counts its own header; raw; line
        FRAMING framing: Framing = "u32be", framing::FRAMING;
        /// Bytes in front of the length field; zeros are sent there
        OFFSET offset: u16 = "0", framing::OFFSET;
        /// Added to the length field's value, for lengths that count more or less than what follows
        ADJUST adjust: i64 = "0", framing::ADJUST;
        /// Bytes without any framing, as --framing raw
        RAW raw: bool = off, values::SWITCH;
        /// Largest payload that the server takes, inclusive; a larger --size is refused
        MAX_FRAME max_frame: u64 = "65536", values::LARGE_SIZE;
        /// Decides all payloads and random arrivals [default: another one each time]
        SEED seed: u64, values::SEED;
        /// Exit with 1 if one of these is true, as p99>5ms,errors>0,rate<1000
        FAIL_IF fail_if: Vec<Budget>, ValueKind::of_parts(
            "BUDGETS",
            "comparisons with commas between them, as p99>5ms,errors>0,rate<1000",
            budget::parse_fail_if,
        );
        /// Search for the highest rate at which these are true, as p99<5ms; --rate is where the
        /// search begins [default: 1000], and --duration how long each trial takes [default: 5s]
        FIND_RATE find_rate: Vec<Budget>, ValueKind::of_parts(
            "BUDGETS",
            "comparisons with commas between them, as p99<5ms",
            budget::parse_find_rate,
        );
        /// Make this part of the load alone: its share of rate and clients; /COUNT takes the index
        /// from JOB_COMPLETION_INDEX
        SHARD shard: shard::Choice,
            ValueKind::of_text("INDEX/COUNT", shard::Choice::ALLOWED, shard::Choice::parse);
        /// Start at this time, so that all shards start together; by how much it was missed is
        /// reported
        START_AT start_at: Timestamp,
            ValueKind::of_text("TIME", start_at::ALLOWED, start_at::parse);
        /// Spread connections over all addresses of the server's name, in turn, in place of the one
        /// that answers first
        SPREAD_ADDRESSES spread_addresses: bool = off, values::SWITCH;
        /// Print one JSON document and nothing else
        JSON json: bool = off, values::SWITCH;
        /// Print a line of comma-separated values a second, and nothing else
        CSV csv: bool = off, values::SWITCH;
        /// Write an HdrHistogram interval log too, for trustctl load merge and other tools
        HDR_LOG hdr_log: PathBuf, values::FILE;
        /// Write a page with charts too, which needs nothing else
        HTML html: PathBuf, values::FILE;
    }
}

/// What names the server.
pub const SERVER: ServerSettings = ServerSettings { host: &HOST, port: &PORT };

/// The settings that the sequential load has. Any other one takes the engine.
const SEQUENTIAL: [&str; 7] =
    ["host", "port", "clients", "messages", "timeout", "wait", "send-proxy"];

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

impl LoadOptions {
    /// How the server tells messages apart.
    ///
    /// # Errors
    ///
    /// 64, or 78 from the file, for an offset or an adjustment that the framing has no room for.
    pub fn framing(&self, layers: &Layers) -> Result<Framing, Failure> {
        if self.raw {
            return Ok(Framing::Raw);
        }
        framing::of_settings(
            layers,
            (&FRAMING, self.framing),
            (&OFFSET, self.offset),
            (&ADJUST, self.adjust),
        )
    }
}

/// Whether nothing was asked for but what the sequential load has.
pub fn is_sequential(layers: &Layers) -> bool {
    SETTINGS
        .iter()
        .filter(|setting| !SEQUENTIAL.contains(&setting.key))
        .all(|setting| layers.source(*setting) <= Source::Default)
}

const PER_SECOND: ValueKind<f64> = ValueKind::of_text(
    "RATE",
    "a number a second from 0.001 to 10000000, with k or M or without, as 500 or 2.5k",
    parse_rate,
);

/// A rate, with fractions. The bounds keep every time and every count of a run within what numbers hold.
fn parse_rate(text: &str) -> Option<f64> {
    // What Rust takes beside digits, as inf and nan, is none of these.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let rate = match with_unit(text, RATES) {
        Some((number, unit)) => unit.float(number),
        None => text.parse().ok().filter(|_| is_number),
    };
    rate.filter(|rate| (0.001..=10_000_000.0).contains(rate))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn rates_are_numbers_above_0() {
        let taken = [
            ("1", 1.0),
            ("0.5", 0.5),
            ("1e6", 1e6),
            ("10000000", 1e7),
            ("10k", 1e4),
            ("2.5k", 2500.0),
            ("10M", 1e7),
            ("0.000001k", 0.001),
        ];
        for (text, rate) in taken {
            assert_eq!(parse_rate(text), Some(rate), "{text}");
        }
        for text in [
            "0", "-1", "", "nan", "inf", "1e8", "0.0001", "1/s", " 1", "k", "0k", "10.1M", "1K",
            "1e3k", "1 k",
        ] {
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
