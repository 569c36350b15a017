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
        group "Server"
        /// The server's name or address, or unix:PATH, in place of HOST:PORT
        ///
        /// The port may be part of it.
        HOST host: ServerWord = "localhost", target::HOST;
        /// The server's port, in place of HOST:PORT
        PORT port: u16, target::SERVER_PORT;
        /// Longest time to connect or to wait for progress; 0: none
        ///
        /// Progress is waited for while an echo is awaited.
        TIMEOUT timeout: Duration = "5s", values::LIMIT;
        /// Time to try again while no server is there
        ///
        /// That is while it refuses, is unreachable, its name is unknown or its socket missing.
        WAIT wait: Duration = "0", values::OPTIONAL_TIME;

        group "Load"
        /// Clients, each with its own connection
        ///
        /// One after another, unless --concurrency is given. [with --concurrency: as many]
        CLIENTS clients: u64 = "1", COUNT.named("N");
        /// Clients at the same time
        CONCURRENCY concurrency: u64 = "1",
            ValueKind::of_text("C", "a whole number from 1 to 1000000", parse_up_to::<1_000_000>);
        /// Messages per client
        ///
        /// One at a time, unless --in-flight or --rate is given.
        MESSAGES messages: u64 = "10", COUNT.named("M");
        /// Run for this time, in place of --clients and --messages
        ///
        /// A client that fails connects again after 0.1 s.
        DURATION duration: Duration, values::TIME;
        /// Time to run before measuring starts
        ///
        /// Bytes are compared and errors counted all the same.
        WARM_UP warm_up: Duration = "0", values::OPTIONAL_TIME;
        /// Messages per second of all clients, sent when due: an open loop
        ///
        /// They are due at their times whatever the server does.
        RATE rate: f64, PER_SECOND;
        /// Most messages in flight per connection
        ///
        /// [default: 1; with --rate or --find-rate 100]
        IN_FLIGHT in_flight: u64,
            ValueKind::of_text("K", "a whole number from 1 to 100000", parse_up_to::<100_000>);
        /// Payload sizes: one, a range, or a list
        ///
        /// Any size of a range, or each of a list, comes equally often.
        SIZE size: Sizes = "64", ValueKind::of_text("SIZES", Sizes::ALLOWED, Sizes::parse);
        /// Search for the highest rate that keeps these budgets
        ///
        /// As p99<5ms. --rate is where the search begins [default: 1000], and --duration how long
        /// each trial takes [default: 5s].
        FIND_RATE find_rate: Vec<Budget>, ValueKind::of_parts(
            "BUDGETS",
            "comparisons with commas between them, as p99<5ms",
            budget::parse_find_rate,
        );
        /// Exit with 1 if one of these is true, as p99>5ms,errors>0
        FAIL_IF fail_if: Vec<Budget>, ValueKind::of_parts(
            "BUDGETS",
            "comparisons with commas between them, as p99>5ms,errors>0,rate<1000",
            budget::parse_fail_if,
        );

        group "Protocol of the server"
        /// How it tells messages apart: its length field, raw or line
        ///
        /// The length field's width and order, with +incl if the length counts its own header.
        FRAMING framing: Framing = "u32be", framing::FRAMING;
        /// Bytes before the length field, sent as zeros
        OFFSET offset: u16 = "0", framing::OFFSET;
        /// Added to the value of the length field
        ///
        /// For lengths that count more or less than what follows.
        ADJUST adjust: i64 = "0", framing::ADJUST;
        /// The same as --framing raw
        RAW raw: bool = off, values::SWITCH;
        /// Largest payload that it takes
        ///
        /// A larger --size is refused.
        MAX_FRAME max_frame: u64 = "65536", values::LARGE_SIZE;

        group "Reports"
        /// Print one JSON document and nothing else
        JSON json: bool = off, values::SWITCH;
        /// Print one CSV line per second and nothing else
        CSV csv: bool = off, values::SWITCH;
        /// Write a page with charts too
        ///
        /// It is one file and loads no other.
        HTML html: PathBuf, values::FILE;
        /// Write an HdrHistogram interval log too
        ///
        /// For trustctl load merge and other tools.
        HDR_LOG hdr_log: PathBuf, values::FILE;

        rare "Connections and pace"
        /// When the messages of an open loop are due: evenly spaced, or as independent users send
        ARRIVALS arrivals: Arrivals = "constant",
            ValueKind::of_text("KIND", Arrivals::ALLOWED, Arrivals::parse);
        /// Time from an answer to the next message of a closed loop
        THINK think: Duration = "0", values::DELAY;
        /// Longest time for a whole echo; 0: no limit
        ///
        /// It runs from sending a message to the last byte of its echo, whatever comes meanwhile.
        ANSWER_TIMEOUT answer_timeout: Duration = "0", values::LIMIT;
        /// Longest wait for the last answers of --duration or of a trial of --find-rate
        ///
        /// What has not come back then counts as unanswered. [default: --timeout, but at most 5s]
        GRACE grace: Duration, values::DELAY;
        /// Most new connections per second
        ///
        /// Clients then send as soon as they are connected, and otherwise all together.
        CONNECT_RATE connect_rate: f64, PER_SECOND;
        /// Messages after which a connection is closed and another opened
        MESSAGES_PER_CONNECTION messages_per_connection: u64, COUNT.named("K");
        /// Spread connections over all addresses of the server's name, in turn
        ///
        /// Without it all of them use the address that answers first.
        SPREAD_ADDRESSES spread_addresses: bool = off, values::SWITCH;
        /// Send a PROXY protocol header first on each connection, as a load balancer does
        ///
        /// The header names the connection's own address as the client's. v2=203.0.113.7:4711 names
        /// another one; without :PORT, with the connection's own port. v1=unknown and v2=local name
        /// none, as health checks do.
        SEND_PROXY send_proxy: ProxyPreface, PREFACE;
        /// Decides all payloads and random arrivals [default: different each time]
        SEED seed: u64, values::SEED;

        rare "Several machines"
        /// Run only this part of the load: its share of rate and clients
        ///
        /// /COUNT takes the index from JOB_COMPLETION_INDEX.
        SHARD shard: shard::Choice,
            ValueKind::of_text("INDEX/COUNT", shard::Choice::ALLOWED, shard::Choice::parse);
        /// Start at this time, so that all shards start together
        ///
        /// The report says by how much it was missed.
        START_AT start_at: Timestamp,
            ValueKind::of_text("TIME", start_at::ALLOWED, start_at::parse);
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
    "a run is as long as one of them says; --concurrency is the number of concurrent clients";

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

/// Whether the sequential load has everything that was asked for.
pub fn is_sequential(layers: &Layers) -> bool {
    SETTINGS
        .iter()
        .filter(|setting| !SEQUENTIAL.contains(&setting.key))
        .all(|setting| layers.source(*setting) <= Source::Default)
}

const PER_SECOND: ValueKind<f64> = ValueKind::of_text(
    "RATE",
    "a number per second from 0.001 to 10000000, with k or M or without, as 500 or 2.5k",
    parse_rate,
);

/// A rate, with fractions. The bounds keep every time and every count of a run in range.
fn parse_rate(text: &str) -> Option<f64> {
    // Rust also parses inf and nan, which are no rates.
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
