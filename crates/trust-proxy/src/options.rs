//! The flags of `trustctl proxy`.

use std::path::PathBuf;
use std::time::Duration;

use trust_cli::exclusions::When::Given;
use trust_cli::exclusions::{Exclusion, not_zero};
use trust_cli::framing::{self, Framing, NO_LENGTH, without_length};
use trust_cli::listen_place::{LISTEN_PLACE, ListenPlace};
use trust_cli::options;
use trust_cli::settings::ValueKind;
use trust_cli::target::Target;
use trust_cli::values;

use crate::frames::{self, FrameFormats};

/// The word that calls it.
pub(crate) const NAME: &str = "proxy";

options! {
    /// Options of `trustctl proxy`, one field per flag.
    pub(crate) struct ProxyOptions of "proxy" {
        group "Endpoints"
        /// File with a place to listen and an upstream per line
        ///
        /// The two are separated by blanks; empty lines, and what follows a #, are ignored.
        PAIRS pairs: PathBuf, values::FILE;
        /// Exit at once if an upstream cannot be reached
        ///
        /// Or cannot be resolved. Otherwise each client whose upstream cannot be reached is told so
        /// by an event.
        CHECK_UPSTREAM check_upstream: bool = off, values::SWITCH;

        /// Serve Toxiproxy's HTTP API [alone: port 8474]
        ///
        /// A port alone is one of 127.0.0.1 and ::1. Proxies and faults can be added, changed and
        /// removed through it while bytes flow (docs/TOXIPROXY.md).
        API api: ListenPlace, LISTEN_PLACE.named("ADDR").or_alone("8474");

        group "Faults"
        /// File of fault rules, one per line
        ///
        /// They come after those of --fault. Empty lines, and those that begin with a #, are
        /// ignored.
        FAULTS faults: PathBuf, values::FILE;
        /// Seed of random choices in rules [default: random]
        SEED seed: u64, values::SEED;
        /// Exit with 1 if a rule never happened
        ///
        /// A test that tested nothing should be visible. Without this, such rules are only
        /// reported.
        FAIL_IF_UNFIRED fail_if_unfired: bool = off, values::SWITCH;

        group "Limits"
        /// Longest time until the upstream is reached
        ///
        /// From accept, or from the end of a connect-delay rule, over all of its addresses.
        CONNECT_TIMEOUT connect_timeout: Duration = "5s", values::LIMIT;
        /// What clients get then: reset or close
        CONNECT_FAILURE connect_failure: ConnectFailure = "reset",
            ValueKind::of_text("ENDING", "reset or close", ConnectFailure::parse);
        /// Longest wait for delivery without progress
        ///
        /// Before a close or a reset is passed on; five times that in all.
        LINGER_TIMEOUT linger_timeout: Duration = "2s", values::DELAY;
        /// Time to end after SIGTERM or SIGINT
        ///
        /// Containers are usually killed after 10s.
        DRAIN_TIMEOUT drain_timeout: Duration = "8s", values::DELAY;
        /// Clients relayed at once; more are reset
        ///
        /// [default: what the descriptor limit allows, two for each client]
        MAX_CLIENTS max_clients: u64, values::COUNT;

        rare "Trace"
        /// File for what happened, as JSON lines
        ///
        /// The seed, the rules, each connection, and each fault with its place and what both sides
        /// had then. Only its owner can read it.
        TRACE trace: PathBuf, values::FILE;
        /// Repeat the faults of a trace
        ///
        /// With its rules and its seed; what these left to chance happens where it did then.
        REPLAY replay: PathBuf, values::FILE;

        rare "Delays"
        /// Most bytes held for a direction that are delayed
        ///
        /// Taken only while they are needed; reaching it is an event, and then the source is no
        /// longer read from.
        HOLD hold: u64 = "32MiB", values::LARGE_SIZE;

        rare "Frames"
        /// How frames are told apart, for places as frame 7 byte 13
        ///
        /// u8, u16be, u16le, u24be, u24le, u32be, u32le, u64be or u64le, perhaps with +incl; or
        /// line. [default: there are no frames]
        FRAMING framing: Framing, framing::FRAMING;
        /// Bytes before the length field
        OFFSET offset: u16 = "0", framing::OFFSET;
        /// Added to the length field's value
        ///
        /// If the field counts something other than the bytes after it.
        ADJUST adjust: i64 = "0", framing::ADJUST;
        /// Take the messages of this protocol for frames
        ///
        /// As in check --dialect, also http2 (its frames) and tls (its records).
        DIALECT dialect: FrameFormats, frames::DIALECT;

        rare "API"
        /// Names by which browsers may reach the page of the API
        ///
        /// Separated by commas. An IP address and localhost may be used in any case; other names
        /// could be those of a page that wants to reach this host.
        API_ALLOW_HOST api_allow_host: Vec<String>, NAMES;

        rare "Endings"
        /// End both sides of a connection when one has sent FIN
        ///
        /// As Toxiproxy does, in place of passing the FIN on: the rule 'close @ eof' after all
        /// others.
        CLOSE_ON_EOF close_on_eof: bool = off, values::SWITCH;

        rare "Arguments as settings"
        /// Where to listen, in place of the first argument
        ///
        /// A port alone is one of 127.0.0.1 and ::1; *:PORT is one of all interfaces. Port 0 takes
        /// a free one, which proxy_start reports.
        LISTEN listen: ListenPlace, LISTEN_PLACE;
        /// The server to connect to for each client, in place of the second argument
        UPSTREAM upstream: Target, UPSTREAM_WORD;
    }
}

/// Settings that cannot be used together.
pub(crate) const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(Given(&REPLAY), Given(&FAULTS), "the trace has the rules"),
    Exclusion(Given(&REPLAY), Given(&SEED), "the trace has the seed"),
    Exclusion(without_length(&FRAMING), not_zero(&OFFSET), NO_LENGTH),
    Exclusion(without_length(&FRAMING), not_zero(&ADJUST), NO_LENGTH),
    Exclusion(Given(&DIALECT), Given(&FRAMING), OWN_FRAMES),
    Exclusion(Given(&DIALECT), not_zero(&OFFSET), OWN_FRAMES),
    Exclusion(Given(&DIALECT), not_zero(&ADJUST), OWN_FRAMES),
];

const OWN_FRAMES: &str = "a dialect says where its messages end";

/// A server to connect to, in one word.
pub(crate) const UPSTREAM_WORD: ValueKind<Target> = ValueKind::of_parts(
    "UPSTREAM",
    "HOST:PORT, [IPV6]:PORT, :PORT or PORT on this host, unix:PATH or unix:@NAME",
    Target::of_word,
);

/// Names of hosts.
const NAMES: ValueKind<Vec<String>> =
    ValueKind::of_text("NAME", "names of hosts, separated by commas", |text| {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        names.iter().all(|name| !name.is_empty()).then_some(names)
    });

/// What a client gets whose upstream cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectFailure {
    /// RST, as the kernel would answer a refused connection that it had accepted. On a unix socket
    /// a close.
    Reset,
    /// FIN, and what it sends is dropped.
    Close,
}

impl ConnectFailure {
    fn parse(word: &str) -> Option<ConnectFailure> {
        match word {
            "reset" => Some(ConnectFailure::Reset),
            "close" => Some(ConnectFailure::Close),
            _ => None,
        }
    }
}
