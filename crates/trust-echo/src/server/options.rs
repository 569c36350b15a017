//! The flags of `trustctl echo-server`, and what they say together.

use std::thread;
use std::time::Duration;

use trust_cli::exclusions::When::{self, Given, On};
use trust_cli::exclusions::{Exclusion, not_one, not_zero};
use trust_cli::exit_code::Failure;
use trust_cli::layers::Layers;
use trust_cli::listen_host::{LISTEN_HOST, ListenHost};
use trust_cli::options;
use trust_cli::settings::{AnySetting, ValueKind};
use trust_cli::values::{self, parse_count, parse_time, parse_up_to};
use trust_net::wire::{Limits, Mode};
use trust_net::{ServerConfig, UnixName};

use crate::server::events::{ModelName, parse_mode};

/// The word that calls it.
pub(crate) const NAME: &str = "echo-server";

options! {
    /// Options of `trustctl echo-server`, one field per flag.
    pub(crate) struct ServerOptions of "echo-server" {
        group "Listening"
        /// Port to listen on; 0 takes a free one
        ///
        /// It is reported in server_start. Required unless sockets are handed over, or --host is a
        /// unix socket.
        PORT port: u16, values::PORT;
        /// Name, address or unix socket to listen on
        ///
        /// All addresses of a name are listened on. A unix socket is unix:PATH, or unix:@NAME in
        /// the abstract namespace. [default: all addresses, IPv6 and IPv4]
        HOST host: ListenHost, LISTEN_HOST;
        /// Permissions of the unix socket's file
        ///
        /// An octal number; it is set before anybody can connect. [default: what the umask leaves
        /// of 0777]
        SOCKET_MODE socket_mode: u32, MODE_BITS;

        group "Protocol"
        /// framed, raw or auto
        ///
        /// framed: frames only; raw: every byte goes back as it came; auto: a first byte of 0x00
        /// means framed.
        MODE mode: Mode = "auto", ValueKind::of_text("MODE", "auto, framed or raw", parse_mode);
        /// Largest payload of a frame
        MAX_FRAME max_frame: u32 = "65536", values::POSITIVE_SIZE;

        group "Limits"
        /// Idle timeout: waiting for data, or for acknowledgement of data sent
        TIMEOUT timeout: Duration = "5s", values::LIMIT;
        /// Longest time from a frame's first byte to its last
        FRAME_TIMEOUT frame_timeout: Duration = "30s", values::LIMIT;
        /// Idle timeout while closing
        ///
        /// Longest wait for the peer's FIN without a sign of life from it; five times that in all.
        LINGER_TIMEOUT linger_timeout: Duration = "2s", values::DELAY;
        /// Time to finish after SIGTERM or SIGINT
        ///
        /// Containers are usually killed after 10s.
        DRAIN_TIMEOUT drain_timeout: Duration = "8s", values::DELAY;
        /// Age at which a connection is closed; 0: none
        ///
        /// The close is orderly, and 5 s later the connection is cut.
        MAX_LIFETIME max_lifetime: Duration = "0", values::LIMIT;
        /// Clients served at once; more are turned away
        ///
        /// [default: what the descriptor limit allows; with model process also what RLIMIT_NPROC
        /// allows, at most 1000]
        MAX_CLIENTS max_clients: u64, values::COUNT;

        group "Execution"
        /// event, iterative or process
        ///
        /// event: all clients at once; iterative: one after another, while the next one waits;
        /// process: all at once, one process per client.
        MODEL model: ModelName = "event",
            ValueKind::of_text("MODEL", "event, iterative or process", ModelName::parse);
        /// Threads that run event loops [default: one per core]
        WORKERS workers: u64,
            ValueKind::of_text("COUNT", "a whole number from 1 to 1024", parse_up_to::<1024>);

        rare "Special uses"
        /// Time after the last event in which an event loop polls without sleeping
        ///
        /// Answers come sooner, and a core is busy for it; 0: it always sleeps.
        BUSY_POLL busy_poll: Duration = "0", MICROSECONDS;
        /// Require a PROXY protocol header on every connection, and take the client from it
        ///
        /// Versions 1 and 2. A client that can connect can claim any address, so only the proxy
        /// must be able to.
        PROXY_PROTOCOL proxy_protocol: bool = off, values::SWITCH;
        /// Longest time from accept to the end of the PROXY header
        PROXY_TIMEOUT proxy_timeout: Duration = "5s", values::LIMIT;
        /// Serve the one connection on descriptor 0, as inetd, systemd and tcpserver hand it over
        ///
        /// The server ends with the connection, and events go to the log file alone.
        INETD inetd: bool = off, values::SWITCH;
    }
}

/// Payloads below this length, in bytes, have headers that begin with 0x00; text does not.
const AUTO_MODE_MAX_FRAME: u32 = 1 << 24;

/// The longest time without sleep. A longer one would mean not to sleep at all.
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);

/// Settings that cannot be used together.
pub(crate) const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(Given(&PORT), On(&INETD), ON_DESCRIPTOR_0),
    Exclusion(Given(&HOST), On(&INETD), ON_DESCRIPTOR_0),
    Exclusion(Given(&SOCKET_MODE), On(&INETD), ON_DESCRIPTOR_0),
    Exclusion(
        Given(&PORT),
        When::Is(&HOST, ListenHost::is_unix, UNIX),
        "a unix socket has no port",
    ),
    Exclusion(Given(&SOCKET_MODE), When::Is(&HOST, is_no_file, "without a path"), NO_FILE),
    Exclusion(not_event(&MODEL), On(&INETD), ONE_CONNECTION),
    Exclusion(not_one(&WORKERS), On(&INETD), ONE_CONNECTION),
    Exclusion(not_one(&MAX_CLIENTS), On(&INETD), ONE_CONNECTION),
    Exclusion(not_one(&WORKERS), not_event(&MODEL), "only event loops have several workers"),
    Exclusion(not_zero(&BUSY_POLL), not_event(&MODEL), "only event loops poll"),
];

const UNIX: &str = "of a unix socket";
const NO_FILE: &str = "it makes no file";
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
    checked_config(&ServerOptions::of(layers), layers).map(drop)
}

/// The settings, checked against each other; addresses, the model and the number of clients are
/// still to come.
pub(crate) fn checked_config(
    options: &ServerOptions,
    layers: &Layers,
) -> Result<ServerConfig, Failure> {
    let off = |limit: Duration| (!limit.is_zero()).then_some(limit);
    let limits = Limits {
        mode: options.mode,
        max_payload: options.max_frame,
        timeout: off(options.timeout),
        frame_timeout: off(options.frame_timeout),
        linger_timeout: options.linger_timeout,
        max_lifetime: off(options.max_lifetime),
        proxy_header: options
            .proxy_protocol
            .then(|| off(options.proxy_timeout).unwrap_or(Duration::MAX)),
    };
    if limits.mode == Mode::Auto && limits.max_payload >= AUTO_MODE_MAX_FRAME {
        let message = format!(
            "{} '{}' cannot be used with mode auto ({}), \
             which takes a first byte of 0x00 for a frame: \
             expected up to {}, or mode framed, or mode raw",
            layers.place(&MAX_FRAME),
            layers.text(&MAX_FRAME).0.unwrap_or_default().to_string_lossy(),
            layers.place(&MODE),
            AUTO_MODE_MAX_FRAME - 1
        );
        return Err(Failure::new(layers.blame(&[&MAX_FRAME, &MODE]), message));
    }
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    Ok(ServerConfig {
        limits,
        drain_timeout: options.drain_timeout,
        busy_poll: options.busy_poll,
        workers: match (options.model, options.workers) {
            _ if options.inetd => 1,
            (ModelName::Iterative | ModelName::Process, _) => 1,
            (ModelName::Event, Some(workers)) => usize::try_from(workers).unwrap_or(usize::MAX),
            (ModelName::Event, None) => cores(),
        },
        socket_mode: options.socket_mode,
        ..ServerConfig::new(options.port.unwrap_or(0))
    })
}

const MODE_BITS: ValueKind<u32> =
    ValueKind::of_text("MODE", "permissions as an octal number, as 0660", parse_mode_bits);

fn parse_mode_bits(text: &str) -> Option<u32> {
    let is_octal =
        (1..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    let bits = is_octal.then(|| u32::from_str_radix(text, 8).ok())?;
    bits.filter(|bits| *bits <= 0o777)
}

fn is_no_file(host: &str) -> bool {
    !matches!(ListenHost::parse(host), Ok(ListenHost::Unix(UnixName::Path(_))))
}

const MICROSECONDS: ValueKind<Duration> = ValueKind::of_text(
    "MICROSECONDS",
    "a time up to 1s, with ns, us, ms or s as in 50us, or in whole microseconds",
    parse_busy_poll,
);

fn parse_busy_poll(text: &str) -> Option<Duration> {
    let plain = || match text {
        "0" => Some(0),
        _ => parse_count(text),
    };
    let time = parse_time(text).or_else(|| plain().map(Duration::from_micros));
    time.filter(|time| *time <= BUSY_POLL_MAX)
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

    #[test]
    fn the_default_drain_is_over_two_seconds_before_containers_are_killed() {
        let drain_timeout = config(&[]).unwrap().drain_timeout;
        assert_eq!(drain_timeout + Duration::from_secs(2), Duration::from_secs(10));
        assert_eq!(drain_timeout, ServerConfig::new(0).drain_timeout, "the library's");
    }

    /// What the settings come to that these flags give.
    fn config(flags: &[&str]) -> Result<ServerConfig, Failure> {
        let line = ["echo-server", "--port=0"].iter().chain(flags);
        let matches = ENTRY.command().try_get_matches_from(line).unwrap();
        let mut layers = Layers::default();
        layers.add_flags(&matches, SETTINGS)?;
        exclusions::settle(&mut layers, EXCLUSIONS)?;
        checked_config(&ServerOptions::of(&layers), &layers)
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused_with_the_reason() {
        let refused = [
            (["--model=iterative", "--workers=2"], "--workers '2'", "--model 'iterative': only"),
            (
                ["--model=iterative", "--busy-poll=50us"],
                "--busy-poll '50us'",
                "--model 'iterative'",
            ),
            (["--model=process", "--workers=2"], "--workers '2'", "--model 'process': only"),
            (["--model=process", "--busy-poll=50"], "--busy-poll '50'", "--model 'process'"),
            (["--mode=auto", "--max-frame=16MiB"], "--max-frame '16MiB'", "up to 16777215"),
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
        for given in ["50us", "0.05ms", "50000ns"] {
            assert_eq!(parse_busy_poll(given), Some(Duration::from_micros(50)), "{given}");
        }
        assert_eq!(["0", "0us"].map(parse_busy_poll), [Some(Duration::ZERO); 2]);
        for wrong in ["-1", "1000001", "0.5", "5s", "1.1s", "0.5ns", ""] {
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
