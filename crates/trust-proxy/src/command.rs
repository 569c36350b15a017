//! `trustctl proxy LISTEN UPSTREAM`: relays between clients and a server.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use trust_cli::approach::Approach;
use trust_cli::command::{Context, Entry, Product};
use trust_cli::descriptor;
use trust_cli::error_map;
use trust_cli::event_log::EventLog;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::framing::{self, Framing};
use trust_cli::layers::Layers;
use trust_cli::level::Level;
use trust_cli::listen_place::ListenPlace;
use trust_cli::listening::loop_failed;
use trust_cli::random::random_seed;
use trust_cli::resolve::literal_addresses;
use trust_cli::service::exit_code;
use trust_cli::signals::{SignalPipe, Stopped};
use trust_cli::target::Family;
use trust_cli::text::reason;
use trust_cli::values::quoted;
use trust_cli::zone;
use trust_net::Address;
use trust_net::errno::Operation;
use trust_net::listening::listen;
use trust_net::socket::AcceptedOptions;
use trust_toxiproxy::metrics::MetricsChoice;
use trust_toxiproxy::server::ApiSettings;
use trust_toxiproxy::server_flags::ServerFlags;
use trust_wire::relay::FrameFormat;

use crate::api::{self, ApiStart, FirstProxy};
use crate::engine::{
    ListeningPair, PairUpstream, RelayConfig, RelayEnded, RelayLoop, ServiceSignals,
};
use crate::events::ProxyEvents;
use crate::frames::FrameFormats;
use crate::options::{
    ADJUST, ConnectFailure, DIALECT, EXCLUSIONS, FRAMING, NAME, OFFSET, ProxyOptions, SETTINGS,
};
use crate::pairs::ProxyPair;
use crate::rules::{self, Rule, Rules};
use crate::trace::{self, Trace};

const INTRODUCTION: &str = "\
Relays between clients and a server, and logs how each connection lived and
ended. A FIN is passed on as a half-close after the last byte, a RST as a RST
once what came before it was delivered. Rules make faults happen at exact
places of a stream.

Examples:
  Between clients of port 7000 on this host and a server:
    trustctl proxy 7000 db.example:5432
  For other hosts too, in front of a unix socket:
    trustctl proxy '*:7000' unix:/run/app.sock
  Cut the server's stream after 1,000 bytes, of every third connection:
    trustctl proxy 7000 localhost:9900 --fault 'conn every 3: rst @ byte 1000 down'

docs/PROXY.md explains what is passed on, and how.
";

/// Descriptors that are not clients: standard streams, log, signals, the loop's own, those of
/// pipes, and room for attempts to connect to several addresses at a time.
const RESERVED_DESCRIPTORS: u64 = 192;

/// A client's connection and the upstream's.
const DESCRIPTORS_PER_CLIENT: u64 = 2;

const RULE_HELP: &str = "\
A fault, and where it happens: 'rst @ byte 1000 down'; may be repeated

[conn WHICH:] ACTION [@ PLACE] [N times] [until PLACE] [up|down]. WHICH is N,
N..M, every N, P% or from ADDRESS/BITS. ACTION is rst [client|server|both], fin
early, close, stall TIME, hold, black-hole, swallow fin, drop N bytes|frames,
flip N bits, xor 0xHEX, set BYTES, insert BYTES, length =|+|- N, dup frame, swap
frame, truncate N, delay TIME [±TIME], rate N kB/s [shared], dribble N per TIME,
split N every N, slice N [±N] [per TIME], merge N within TIME, window N,
accept-rst, accept-silent, connect-delay TIME, refuse or ignore [for TIME].
PLACE is byte N, frame N [byte M | payload | end | -M], match BYTES, eof, every
N bytes|frames, random P% per frame|KiB, time TIME, idle TIME or connect.
docs/PROXY.md explains them.";

/// The command.
pub const ENTRY: Entry = Entry {
    example: "7000 localhost:9900",
    introduction: INTRODUCTION,
    settings: SETTINGS,
    exclusions: EXCLUSIONS,
    arguments,
    ..Entry::new(
        NAME,
        "Relay between clients and a server, and log how each connection ended",
        Product::Service,
        run,
    )
};

fn arguments() -> Vec<Arg> {
    vec![
        Arg::new("words")
            .value_names(["LISTEN", "UPSTREAM"])
            .help("Where to listen, and the server, as HOST:PORT")
            .long_help("Where to listen, and the server: PORT, HOST:PORT or unix:PATH")
            .value_parser(value_parser!(OsString))
            .num_args(0..=2),
        Arg::new("fault")
            .long("fault")
            .value_name("RULE")
            .help("A fault and its place: 'rst @ byte 7 up'")
            .long_help(RULE_HELP)
            .help_heading("Faults")
            .value_parser(value_parser!(OsString))
            .action(ArgAction::Append),
    ]
}

/// Relays until a signal ends it.
///
/// # Errors
///
/// 64 for a missing or wrong word, 65 and 74 for a file of pairs, 73 without a log, 68 for an
/// unknown host name, and what the error table says about `bind(2)`.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let options = ProxyOptions::of(context.layers);
    let words: Vec<OsString> =
        context.matches.get_many::<OsString>("words").unwrap_or_default().cloned().collect();
    let pairs = ProxyPair::all(&words, &options)?;
    if let Some(problem) = context.home_problem {
        return Err(Failure::new(ExitCode::CannotCreate, problem));
    }
    if options.check_upstream
        && let Err(stopped) = check_upstreams(&pairs, &options, context)
    {
        return context.end(stopped);
    }
    let (framing, frames) = frames(context.layers, &options)?.unzip();
    let rules = match &options.replay {
        Some(path) => replayed(context.matches, path, framing.as_deref())?,
        None => all_rules(context.matches, &options)?,
    };
    check_against(&rules, &pairs, frames.as_ref())?;
    let exit = serve(
        context,
        ProxySetup {
            pairs,
            rules,
            close_on_eof: options.close_on_eof,
            trace: options.trace.as_deref().map(Trace::create).transpose()?,
            framing,
            config: RelayConfig {
                connect_timeout: options.connect_timeout,
                connect_failure: options.connect_failure,
                linger_timeout: options.linger_timeout,
                drain_timeout: options.drain_timeout,
                max_clients: allowed_clients(options.max_clients, context.log),
                hold: usize::try_from(options.hold).unwrap_or(usize::MAX),
                frames,
            },
            api: options.api.map(|place| {
                let allowed_hosts = options.api_allow_host.unwrap_or_default();
                let metrics = MetricsChoice { traffic: true, process: true };
                (place, ApiSettings { allowed_hosts, metrics, ..ApiSettings::default() })
            }),
        },
    )?;
    match exit.code {
        ExitCode::Success if options.fail_if_unfired && exit.has_unfired => Ok(ExitCode::Negative),
        code => Ok(code),
    }
}

/// Serves Toxiproxy's API, as its own server does, until a signal ends it.
///
/// # Errors
///
/// 73 without a log, 68 for an unknown host name, and what the error table says about `bind(2)`.
pub fn toxiproxy_server(context: &Context<'_>, flags: ServerFlags) -> Result<ExitCode, Failure> {
    if let Some(problem) = context.home_problem {
        return Err(Failure::new(ExitCode::CannotCreate, problem));
    }
    let ServerFlags { host, port, config, seed, close_on_eof, .. } = flags;
    let place = match host.as_str() {
        "" => ListenPlace::Everywhere(port),
        "localhost" => ListenPlace::Loopback(port),
        _ => ListenPlace::Named(host, port),
    };
    let list = config.and_then(|path| match fs::read(&path) {
        Ok(list) => Some(list),
        Err(error) => {
            // As Toxiproxy does: the server is there all the same.
            let message = format!("cannot read {}: {}", quoted(&path), reason(&error));
            context.log.event(Level::Error, "api_note").field("message", &message).write();
            None
        }
    });
    let metrics = MetricsChoice { traffic: flags.proxy_metrics, process: flags.runtime_metrics };
    let settings = ApiSettings { metrics, list, ..ApiSettings::default() };
    let defaults = ProxyOptions::of(&Layers::default());
    serve(
        context,
        ProxySetup {
            pairs: vec![],
            rules: Rules::new(vec![], seed.unwrap_or_else(random_seed)),
            close_on_eof,
            trace: None,
            framing: None,
            config: RelayConfig {
                connect_timeout: defaults.connect_timeout,
                // A client whose upstream is not there gets FIN, and its stop takes no time.
                connect_failure: ConnectFailure::Close,
                linger_timeout: defaults.linger_timeout,
                drain_timeout: Duration::ZERO,
                max_clients: allowed_clients(None, context.log),
                hold: usize::try_from(defaults.hold).unwrap_or(usize::MAX),
                frames: None,
            },
            api: Some((place, settings)),
        },
    )?;
    Ok(ExitCode::Success)
}

/// What a proxy begins with.
struct ProxySetup {
    pairs: Vec<ProxyPair>,
    rules: Rules,
    close_on_eof: bool,
    trace: Option<Trace>,
    /// How frames are told apart, as a trace says it.
    framing: Option<String>,
    config: RelayConfig,
    api: Option<(ListenPlace, ApiSettings)>,
}

/// How a proxy ended.
struct ProxyExit {
    code: ExitCode,
    /// A rule has never happened.
    has_unfired: bool,
}

/// Relays until a signal ends it.
fn serve(context: &Context<'_>, setup: ProxySetup) -> Result<ProxyExit, Failure> {
    let ProxySetup { pairs, mut rules, close_on_eof, mut trace, framing, config, api } = setup;
    if close_on_eof {
        rules.add_last(Rule::parse("close @ eof").expect("a rule"));
    }
    let refuses = rules.iter().any(|rule| rule.action.is_of_listener());
    let listening = pairs.iter().map(|pair| open(pair, refuses)).collect::<Result<Vec<_>, _>>()?;
    let events = ProxyEvents { log: context.log.clone() };
    let first: Vec<FirstProxy> = listening.iter().map(FirstProxy::of).collect();
    let signals = ServiceSignals {
        signals: context.signals,
        stats: SignalPipe::user1().map_err(|error| loop_failed(&error))?,
        log_file: context.log_file,
        hangup_ends: io::stdin().is_terminal(),
        first: None,
        // From before its descriptor was registered.
        have_come: true,
    };
    for FirstProxy { addresses, upstream, .. } in &first {
        events.write_listening(addresses, upstream);
    }
    let addresses = first.first().map_or(&[][..], |proxy| &proxy.addresses);
    events.write_start(addresses, pairs.len(), &rules, config.max_clients);
    if let Some(trace) = &mut trace {
        trace.write_start(&rules, framing);
    }
    let (seed, frames) = (rules.seed(), config.frames.clone());
    let mut relay = RelayLoop::new(config, listening, rules, trace, &events, signals)
        .map_err(|error| loop_failed(&error))?;
    let api = api.map(|(place, settings)| {
        let start = ApiStart { place: &place, first, frames, settings, seed };
        api::start(start, relay.handle(), context.log)
    });
    let api = api.transpose()?;
    let ended = relay.run().map_err(|error| loop_failed(&error))?;
    drop(api);
    let RelayEnded { totals, rules, trace, uptime, signal, listener_failed } = ended;
    rules.unfired().for_each(|rule| events.write_unfired(rule));
    events.write_stop(&totals, uptime);
    let traced = trace.map_or(Ok(()), |trace| trace.finish(&rules));
    if let Some(errno) = listener_failed {
        let name = error_map::errno_name(errno);
        let exit = error_map::find(errno, Operation::Accept).exit.unwrap_or(ExitCode::OsLimit);
        return Err(Failure::new(exit, format!("the listening socket failed: {name}")));
    }
    traced?;
    let code = exit_code(signal, totals.cut > 0);
    Ok(ProxyExit { code, has_unfired: rules.unfired().next().is_some() })
}

/// The rules of the command line, and then those of the file.
fn all_rules(matches: &ArgMatches, options: &ProxyOptions) -> Result<Rules, Failure> {
    let mut rules = vec![];
    for text in matches.get_many::<OsString>("fault").unwrap_or_default() {
        let text = text.to_string_lossy();
        let rule = Rule::parse(&text);
        rules.push(rule.map_err(|error| error.failure(ExitCode::Usage, "--fault", &text))?);
    }
    if let Some(path) = &options.faults {
        rules.extend(rules::read_file(path)?);
    }
    Ok(Rules::new(rules, options.seed.unwrap_or_else(random_seed)))
}

/// The rules of a trace.
fn replayed(matches: &ArgMatches, path: &Path, framing: Option<&str>) -> Result<Rules, Failure> {
    if matches.contains_id("fault") {
        let message = "--replay and --fault cannot be used together: the trace has the rules";
        return Err(Failure::new(ExitCode::Usage, message));
    }
    trace::read(path, framing)
}

/// How frames are told apart, as a trace says it and as the relay needs it.
fn frames(
    layers: &Layers,
    options: &ProxyOptions,
) -> Result<Option<(String, FrameFormats)>, Failure> {
    if let Some(formats) = &options.dialect {
        let name = layers.text(&DIALECT).0.unwrap_or_default();
        return Ok(Some((name.to_string_lossy().into_owned(), formats.clone())));
    }
    let Some(named) = options.framing else { return Ok(None) };
    let framing = framing::of_settings(
        layers,
        (&FRAMING, named),
        (&OFFSET, options.offset),
        (&ADJUST, options.adjust),
    )?;
    let format = match framing {
        Framing::Length(format) => Some(FrameFormat::Length(format)),
        Framing::Line => Some(FrameFormat::Line),
        Framing::Raw => None,
    };
    Ok(format.map(|format| (framing.to_string(), FrameFormats::same(format))))
}

/// Refuses rules that can never happen, or need a RST where there may be a unix socket, which has
/// none.
fn check_against(
    rules: &Rules,
    pairs: &[ProxyPair],
    frames: Option<&FrameFormats>,
) -> Result<(), Failure> {
    for rule in rules.iter() {
        if let Some(what) = rules::lacking(rule, frames) {
            let (framing, dialect) = (FRAMING.flag(), DIALECT.flag());
            let message = format!(
                "the rule '{rule}' needs {what}: expected {framing}, as {framing} u32be, or a \
                 fitting {dialect}"
            );
            return Err(Failure::new(ExitCode::Usage, message));
        }
    }
    let listens_on_unix = |pair: &&ProxyPair| matches!(pair.listen, ListenPlace::Unix(_));
    let of_listener = rules.iter().find(|rule| rule.action.is_of_listener());
    if let (Some(rule), Some(pair)) = (of_listener, pairs.iter().find(listens_on_unix)) {
        let message = format!(
            "the rule '{rule}' cannot be used with {}: a unix socket neither refuses nor ignores",
            pair.listen
        );
        return Err(Failure::new(ExitCode::Usage, message));
    }
    let Some(rule) = rules.iter().find(|rule| rule.resets()) else { return Ok(()) };
    match pairs.iter().find(|pair| listens_on_unix(pair) || pair.upstream.is_unix()) {
        None => Ok(()),
        Some(ProxyPair { listen, upstream }) => {
            let message = format!(
                "the rule '{rule}' cannot be used with {listen} and {upstream}: a unix socket has \
                 no RST"
            );
            Err(Failure::new(ExitCode::Usage, message))
        }
    }
}

/// Begins to listen for a pair. A socket that `refuses` at times must be bound to its port on
/// purpose: one that the kernel chose is given up when it refuses.
fn open(pair: &ProxyPair, refuses: bool) -> Result<ListeningPair, Failure> {
    let known = literal_addresses(&pair.upstream)?;
    let addresses = pair.listen.addresses()?;
    let options = AcceptedOptions { keepalive: true };
    let listen_on = |addresses: &[Address]| {
        let sockets = listen(addresses, options, None, |_socket| Ok(()));
        sockets.map_err(|error| pair.listen.cannot_listen(&error))
    };
    let mut sockets = listen_on(&addresses)?;
    if refuses && addresses.iter().any(|it| it.ip().is_some_and(|address| address.port() == 0)) {
        let chosen: Vec<Address> = sockets.iter().map(|it| it.address().clone()).collect();
        drop(sockets);
        sockets = listen_on(&chosen)?;
    }
    let (text, target) = (pair.upstream.to_string(), Ok(pair.upstream.clone()));
    let upstream = PairUpstream { text, target, known };
    let address = sockets.first().map(|socket| zone::shown_address(socket.address()));
    let proxy = match pair.listen.to_string() {
        // Only the address differs from that of another one.
        free if free.ends_with(":0") => address.unwrap_or(free),
        named => named,
    };
    Ok(ListeningPair { sockets, proxy, upstream })
}

fn check_upstreams(
    pairs: &[ProxyPair],
    options: &ProxyOptions,
    context: &Context<'_>,
) -> Result<(), Stopped> {
    for ProxyPair { upstream, .. } in pairs {
        let approach = Approach {
            target: upstream,
            family: Family::Any,
            timeout: options.connect_timeout,
            wait: std::time::Duration::ZERO,
            preface: None,
            signals: context.signals,
        };
        approach.reach()?;
    }
    Ok(())
}

/// How many clients the descriptors allow, after the soft limit was raised to the hard one.
fn allowed_clients(wanted: Option<u64>, log: &EventLog) -> usize {
    let descriptors = descriptor::raise_limit();
    let allowed = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CLIENT;
    let allowed = allowed.max(1);
    if let Some(wanted) = wanted.filter(|wanted| *wanted > allowed) {
        let event = log.event(Level::Warn, "limit_lowered");
        event.field("limit", "max_clients").field("wanted", &wanted).field("got", &allowed).write();
    }
    usize::try_from(wanted.unwrap_or(allowed).min(allowed)).unwrap_or(usize::MAX)
}
