//! The flags of `trustctl echo-server`, and what they say together.

use std::thread;
use std::time::Duration;

use trust_cli::exclusions::When::{self, Given, On};
use trust_cli::exclusions::{Exclusion, not_one, not_zero};
use trust_cli::exit_code::Failure;
use trust_cli::layers::Layers;
use trust_cli::settings::{
    ALLOWED_COUNT, ALLOWED_LIMIT, ALLOWED_LIMIT_AT_ONCE, ALLOWED_PORT, AnySetting, Setting,
    parse_count, parse_limit, parse_port,
};
use trust_cli::target::{ALLOWED_HOST, parse_host};
use trust_net::ServerConfig;
use trust_net::wire::{Limits, Mode};

use crate::server::events::{ModelName, parse_mode};

/// The word that calls it.
pub(crate) const NAME: &str = "echo-server";

/// Its settings.
pub(crate) const SETTINGS: &[&dyn AnySetting] = &[
    &PORT,
    &HOST,
    &MODE,
    &MAX_FRAME,
    &TIMEOUT,
    &FRAME_TIMEOUT,
    &LINGER_TIMEOUT,
    &DRAIN_TIMEOUT,
    &MAX_LIFETIME,
    &MAX_CLIENTS,
    &WORKERS,
    &MODEL,
    &BUSY_POLL,
    &INETD,
];

/// Payloads below this length, in bytes, have headers that begin with 0x00; text does not.
const AUTO_MODE_MAX_FRAME: u32 = 1 << 24;

/// The longest time without sleep, in microseconds: whoever wants more does not want to sleep at all.
const BUSY_POLL_MAX_MICROS: u64 = 1_000_000;

pub(crate) const PORT: Setting<u16> = Setting::of(
    NAME,
    "port",
    "PORT",
    None,
    "Port to listen on; 0 takes a free one and reports it in server_start; required unless \
     sockets are handed over",
    ALLOWED_PORT,
    parse_port,
);
pub(crate) const HOST: Setting<String> = Setting::of(
    NAME,
    "host",
    "HOST",
    None,
    "Address or name to listen on [default: all addresses, IPv6 and IPv4]",
    ALLOWED_HOST,
    parse_host,
);
const MODE: Setting<Mode> = Setting::of(
    NAME,
    "mode",
    "MODE",
    Some("auto"),
    "framed: frames only; raw: every byte goes back as it came; auto: a first byte of 0x00 means framed",
    "auto, framed or raw",
    parse_mode,
);
const MAX_FRAME: Setting<u32> = Setting::of(
    NAME,
    "max-frame",
    "BYTES",
    Some("65536"),
    "Largest payload of a frame, inclusive",
    "a whole number of bytes from 1 to 4294967295",
    parse_max_frame,
);
const TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "timeout",
    "SECONDS",
    Some("5"),
    "Longest silence while a byte is awaited, and longest time without an acknowledgement while sending",
    ALLOWED_LIMIT,
    parse_limit,
);
const FRAME_TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "frame-timeout",
    "SECONDS",
    Some("30"),
    "Longest time from a frame's first byte to its last",
    ALLOWED_LIMIT,
    parse_limit,
);
const LINGER_TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "linger-timeout",
    "SECONDS",
    Some("2"),
    "Longest wait for the peer's FIN without a sign of life from it; five times that in all",
    ALLOWED_LIMIT_AT_ONCE,
    parse_limit,
);
const DRAIN_TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "drain-timeout",
    "SECONDS",
    Some("10"),
    "Longest time for connections to finish after SIGTERM or SIGINT",
    ALLOWED_LIMIT_AT_ONCE,
    parse_limit,
);
const MAX_LIFETIME: Setting<Duration> = Setting::of(
    NAME,
    "max-lifetime",
    "SECONDS",
    Some("0"),
    "Life of a connection after which it is ended in order, and 5 s later cut",
    ALLOWED_LIMIT,
    parse_limit,
);
pub(crate) const MAX_CLIENTS: Setting<u64> = Setting::of(
    NAME,
    "max-clients",
    "COUNT",
    None,
    "Clients served at once; more are turned away in the orderly way [default: what the descriptor limit allows; with \
     model process also what RLIMIT_NPROC allows, at most 1000]",
    ALLOWED_COUNT,
    parse_count,
);
const WORKERS: Setting<u64> = Setting::of(
    NAME,
    "workers",
    "COUNT",
    None,
    "Threads that run event loops [default: the number of cores]",
    "a whole number from 1 to 1024",
    parse_workers,
);
pub(crate) const MODEL: Setting<ModelName> = Setting::of(
    NAME,
    "model",
    "MODEL",
    Some("event"),
    "event: all clients at once; iterative: one after the other, the next one waits; process: all at once, \
     a process each",
    "event, iterative or process",
    ModelName::parse,
);

const BUSY_POLL: Setting<Duration> = Setting::of(
    NAME,
    "busy-poll",
    "MICROSECONDS",
    Some("0"),
    "Time after the last event in which an event loop asks again without sleeping: answers come sooner, \
     and a core is busy for it; 0: it always sleeps",
    "a whole number of microseconds from 0 to 1000000",
    parse_busy_poll,
);

/// Serve the connection on descriptor 0 instead of listening.
pub(crate) const INETD: Setting<bool> = Setting::switch(
    NAME,
    "inetd",
    "Serve the one connection on descriptor 0, as inetd, systemd and tcpserver hand it over, and end with it; \
     events go to the log file alone",
);

/// Settings that cannot be used together.
pub(crate) const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(Given(&PORT), On(&INETD), ON_DESCRIPTOR_0),
    Exclusion(Given(&HOST), On(&INETD), ON_DESCRIPTOR_0),
    Exclusion(not_event(&MODEL), On(&INETD), ONE_CONNECTION),
    Exclusion(not_one(&WORKERS), On(&INETD), ONE_CONNECTION),
    Exclusion(not_one(&MAX_CLIENTS), On(&INETD), ONE_CONNECTION),
    Exclusion(not_one(&WORKERS), not_event(&MODEL), "only event loops have several workers"),
    Exclusion(not_zero(&BUSY_POLL), not_event(&MODEL), "only event loops poll"),
];

const ON_DESCRIPTOR_0: &str = "it serves the connection on descriptor 0";
const ONE_CONNECTION: &str = "it serves one connection, from an event loop";

const fn not_event(model: &'static dyn AnySetting) -> When {
    When::Is(model, |text| text != "event", "not event")
}

/// Checks the settings against each other.
///
/// # Errors
///
/// 64, or 78 for those of the configuration file.
pub(crate) fn check(layers: &Layers) -> Result<(), Failure> {
    checked_config(layers).map(drop)
}

/// The settings, checked against each other; addresses, the model and the number of clients are still to come.
pub(crate) fn checked_config(layers: &Layers) -> Result<ServerConfig, Failure> {
    let off = |limit: Duration| (!limit.is_zero()).then_some(limit);
    let limits = Limits {
        mode: layers.require(&MODE)?,
        max_payload: layers.require(&MAX_FRAME)?,
        timeout: off(layers.require(&TIMEOUT)?),
        frame_timeout: off(layers.require(&FRAME_TIMEOUT)?),
        linger_timeout: layers.require(&LINGER_TIMEOUT)?,
        max_lifetime: off(layers.require(&MAX_LIFETIME)?),
    };
    if limits.mode == Mode::Auto && limits.max_payload >= AUTO_MODE_MAX_FRAME {
        let message = format!(
            "{} '{}' cannot be used with mode auto ({}), which takes a first byte of 0x00 for a frame: \
             allowed is up to {}, or mode framed, or mode raw",
            layers.place(&MAX_FRAME),
            limits.max_payload,
            layers.place(&MODE),
            AUTO_MODE_MAX_FRAME - 1
        );
        return Err(Failure::new(layers.blame(&[&MAX_FRAME, &MODE]), message));
    }
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    Ok(ServerConfig {
        limits,
        drain_timeout: layers.require(&DRAIN_TIMEOUT)?,
        busy_poll: layers.require(&BUSY_POLL)?,
        workers: match (layers.require(&MODEL)?, layers.get(&WORKERS)) {
            _ if layers.get(&INETD) == Some(true) => 1,
            (ModelName::Iterative | ModelName::Process, _) => 1,
            (ModelName::Event, Some(workers)) => usize::try_from(workers).unwrap_or(usize::MAX),
            (ModelName::Event, None) => cores(),
        },
        ..ServerConfig::new(layers.get(&PORT).unwrap_or(0))
    })
}

fn parse_max_frame(text: &str) -> Option<u32> {
    u32::try_from(parse_count(text)?).ok()
}

fn parse_workers(text: &str) -> Option<u64> {
    parse_count(text).filter(|workers| *workers <= 1024)
}

fn parse_busy_poll(text: &str) -> Option<Duration> {
    let micros = match text {
        "0" => 0,
        _ => parse_count(text)?,
    };
    (micros <= BUSY_POLL_MAX_MICROS).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use trust_cli::exclusions;
    use trust_cli::exit_code::ExitCode;
    use trust_net::wire::DEFAULT_MAX_PAYLOAD;

    use super::*;
    use crate::server::command::ENTRY;
    use crate::server::events::mode_name;

    #[test]
    fn the_default_frame_limit_is_the_library_s() {
        assert_eq!(MAX_FRAME.default, Some(DEFAULT_MAX_PAYLOAD.to_string().as_str()));
    }

    /// What the settings come to that these flags give.
    fn config(flags: &[&str]) -> Result<ServerConfig, Failure> {
        let line = ["echo-server", "--port=0"].iter().chain(flags);
        let matches = ENTRY.command().try_get_matches_from(line).unwrap();
        let mut layers = Layers::default();
        layers.add_flags(&matches, SETTINGS)?;
        exclusions::settle(&mut layers, EXCLUSIONS)?;
        checked_config(&layers)
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused_with_the_reason() {
        let refused = [
            (["--model=iterative", "--workers=2"], "--workers '2'", "--model 'iterative': only"),
            (["--model=iterative", "--busy-poll=50"], "--busy-poll '50'", "--model 'iterative'"),
            (["--model=process", "--workers=2"], "--workers '2'", "--model 'process': only"),
            (["--model=process", "--busy-poll=50"], "--busy-poll '50'", "--model 'process'"),
            (["--mode=auto", "--max-frame=16777216"], "--max-frame '16777216'", "up to 16777215"),
        ];
        for (flags, what, reason) in refused {
            let failure = config(&flags).unwrap_err();
            assert_eq!(failure.exit, ExitCode::Usage);
            assert!(failure.message.starts_with(what), "{}", failure.message);
            assert!(failure.message.contains(reason), "{}", failure.message);
        }
    }

    #[test]
    fn busy_polling_is_off_unless_asked_for_in_microseconds() {
        assert_eq!(config(&[]).unwrap().busy_poll, Duration::ZERO);
        assert_eq!(config(&["--busy-poll=50"]).unwrap().busy_poll, Duration::from_micros(50));
        for wrong in ["-1", "1000001", "0.5", "5s", ""] {
            assert_eq!(parse_busy_poll(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn words_for_modes_and_models_are_read_back() {
        for mode in [Mode::Auto, Mode::Framed, Mode::Raw] {
            assert_eq!(parse_mode(mode_name(mode)), Some(mode));
        }
        for model in ModelName::ALL {
            assert_eq!(ModelName::parse(model.word()), Some(model));
        }
        assert_eq!(parse_mode("Auto"), None);
    }
}
