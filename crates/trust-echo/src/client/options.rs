//! The flags of `trustctl echo-client`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, value_parser};
use trust_cli::exclusions::Exclusion;
use trust_cli::exclusions::When::{Given, On};
use trust_cli::send_proxy::SEND_PROXY as PREFACE;
use trust_cli::target::{self, Family, ServerSettings, ServerWord, Target};
use trust_cli::{options, values};
use trust_net::preface::ProxyPreface;

/// The word that calls it.
pub(crate) const NAME: &str = "echo-client";

options! {
    /// Options of `trustctl echo-client`, one field per flag.
    pub(crate) struct ClientOptions of "echo-client" {
        group "Server"
        /// The server's name or address, or unix:PATH, in place of HOST:PORT
        ///
        /// The port may be part of it.
        HOST host: ServerWord = "localhost", target::HOST;
        /// The server's port, in place of HOST:PORT
        PORT port: u16, target::SERVER_PORT;
        /// Longest time to connect or to wait for progress; 0: none
        ///
        /// Progress is waited for while an answer is owed.
        TIMEOUT timeout: Duration = "5s", values::LIMIT;
        /// Time to try again while no server is there
        ///
        /// That is while it refuses, is unreachable, its name is unknown or its socket missing.
        WAIT wait: Duration = "0", values::OPTIONAL_TIME;
        /// Send a PROXY protocol header first, as a load balancer does
        ///
        /// The header names the connection's own address as the client's. v2=203.0.113.7:4711 names
        /// another one; without :PORT, with the connection's own port. v1=unknown and v2=local name
        /// none, as health checks do.
        SEND_PROXY send_proxy: ProxyPreface, PREFACE;

        group "Messages"
        /// Send one generated frame with this payload
        ///
        /// From 16777216 bytes on, a server in auto mode takes it for raw bytes.
        PAYLOAD_SIZE payload_size: u32, values::SIZE;
        /// Send standard input in frames of this size
        ///
        /// Standard output gets exactly the echoed bytes.
        CHUNK chunk: u32, values::POSITIVE_SIZE;
        /// Send standard input without frames
        ///
        /// When it ends the client half-closes and reads to the end.
        RAW raw: bool = off, values::SWITCH;
        /// Repeat the messages at this interval until stopped
        ///
        /// Round-trip times go to stderr.
        INTERVAL interval: Duration, values::DELAY;
        /// Longest line of standard input
        MAX_FRAME max_frame: u32 = "65536", values::SIZE;
    }
}

/// What names the server.
pub(crate) const SERVER: ServerSettings = ServerSettings { host: &HOST, port: &PORT };

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
    [Target::arg(), messages].into_iter().chain(family).collect()
}
