//! Turns settings into the work of the engine, and into the description of a run.

use std::ffi::OsString;
use std::time::Duration;
use std::{env, fmt, thread};

use trust_cli::again::{said, shell_word};
use trust_cli::approach::Approach;
use trust_cli::connect::Connected;
use trust_cli::exit_code::Failure;
use trust_cli::framing::Framing;
use trust_cli::layers::{Layers, Source};
use trust_cli::random::random_seed;
use trust_cli::send_proxy;
use trust_cli::settings::AnySetting;
use trust_cli::signals::Signals;
use trust_cli::target::{Arguments, Family, ServerSettings, Target};
use trust_cli::text::{count, grouped, seconds};
use trust_net::Address;

use crate::options::{
    ARRIVALS, CLIENTS, CONCURRENCY, CSV, DURATION, FRAMING, GRACE, HDR_LOG, HOST, HTML, JSON,
    LoadOptions, MAX_FRAME, MESSAGES, NAME, PORT, RATE, RAW, SEED, SERVER, SETTINGS, SHARD, SIZE,
    SPREAD_ADDRESSES, START_AT, WAIT,
};
use crate::report::units;
use crate::schedule::Arrivals;
use crate::script::Script;
use crate::shape::{ConnectPlan, Length, Pace, Places, Shape};
use crate::shard::{INDEX_VARIABLE, Shard};
use crate::summary::About;

/// Most frames in flight on a connection of an open loop: enough that the client hardly ever holds
/// a message back, few enough that a stalled server is not buried under a backlog that it has to
/// read at once.
const IN_FLIGHT_OPEN: u64 = 100;

/// Where the search for a rate begins, in messages per second.
pub(crate) const FIND_FROM: f64 = 1000.0;

/// Length of a trial of that search: long enough for a 99th percentile of a few hundred messages.
const TRIAL: Duration = Duration::from_secs(5);

/// Default of the longest wait for the last answers: a run with a duration must not go on for long.
const GRACE_MAX: Duration = Duration::from_secs(5);

/// What a run of the load does.
#[derive(Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Which of its addresses are tried.
    pub family: Family,
    /// Its settings.
    pub options: LoadOptions,
    /// Its part of the load.
    pub shard: Option<Shard>,
    /// Decides payloads and arrivals.
    pub seed: u64,
    /// The command that repeats it.
    again: String,
    places: Places,
    pace: Pace,
    in_flight: u64,
    length: Length,
    framing: Framing,
}

impl Plan {
    /// The plan that the settings make together.
    ///
    /// # Errors
    ///
    /// 64 without a server, and for settings that contradict each other; 78 if those come from the
    /// configuration file.
    pub fn of(layers: &Layers, arguments: &[OsString], family: Family) -> Result<Plan, Failure> {
        let target = target(layers, arguments, family)?;
        let by = if arguments.is_empty() { layers.source(&HOST) } else { Source::Flag };
        if target.is_unix() && layers.source(&SPREAD_ADDRESSES) >= by {
            let why = format!("cannot be used with {target}: a unix socket is one address");
            return Err(refused(layers, &[&SPREAD_ADDRESSES], why));
        }
        let plan = Plan::for_target(target, LoadOptions::of(layers), layers, family)?;
        let again = again(layers, arguments, family, plan.seed, plan.shard);
        Ok(Plan { again, ..plan })
    }

    fn for_target(
        target: Target,
        options: LoadOptions,
        layers: &Layers,
        family: Family,
    ) -> Result<Plan, Failure> {
        let is_open = options.rate.is_some() || options.find_rate.is_some();
        if !is_open && layers.source(&ARRIVALS) > Source::Default {
            let why = format!("goes only with {}: only an open loop has arrivals", RATE.flag());
            return Err(refused(layers, &[&ARRIVALS], why));
        }
        let is_timed = options.duration.is_some() || options.find_rate.is_some();
        if !is_timed && options.grace.is_some() {
            let why =
                format!("goes only with {}: other runs wait for all answers", DURATION.flag());
            return Err(refused(layers, &[&GRACE], why));
        }
        let concurrency = options.concurrency;
        let shard =
            options.shard.map(|choice| choice.shard(env::var_os(INDEX_VARIABLE).as_deref()));
        let shard = shard.transpose().map_err(|error| refused(layers, &[&SHARD], error))?;
        let of_all = length(layers, &options)?;
        let part = shard.unwrap_or(Shard::WHOLE);
        let (places, length) = match of_all {
            Length::Time(_) => (concurrency, of_all),
            Length::Messages { clients, each } => {
                let length = Length::Messages { clients: part.share(clients), each };
                (concurrency.min(clients), length)
            }
        };
        let places = Places::of_shard(part, places);
        if let (Some(shard), 0) = (shard, places.count) {
            let clients = count(places.of_all, "client");
            let message = format!("{shard}: nothing is left for it of {clients} at the same time");
            return Err(refused(layers, &[&SHARD, &CLIENTS, &CONCURRENCY], message));
        }
        let framing = checked_framing(layers, &options)?;
        let seed = options.seed.unwrap_or_else(|| random_seed() >> 1);
        let pace = if is_open {
            let rate = options.rate.unwrap_or(FIND_FROM);
            Pace::Open { rate, arrivals: options.arrivals }
        } else {
            Pace::Closed { think: options.think }
        };
        Ok(Plan {
            target,
            family,
            shard,
            seed,
            again: String::new(),
            places,
            pace,
            in_flight: options.in_flight.unwrap_or(if is_open { IN_FLIGHT_OPEN } else { 1 }),
            length,
            framing,
            options,
        })
    }

    /// How its server is reached.
    pub fn approach<'a>(&'a self, signals: &'a Signals) -> Approach<'a> {
        let LoadOptions { timeout, wait, send_proxy: preface, .. } = self.options;
        Approach { target: &self.target, family: self.family, timeout, wait, preface, signals }
    }

    /// Concurrent connections.
    pub fn connections(&self) -> u64 {
        self.places.count
    }

    /// Messages per second that this process has to send; `None` in a closed loop.
    pub fn rate(&self) -> Option<f64> {
        match self.pace {
            Pace::Open { rate, .. } => Some(self.places.share(rate)),
            Pace::Closed { .. } => None,
        }
    }

    /// Messages per second that all shards have to send; `None` in a closed loop.
    pub fn rate_of_all(&self) -> Option<f64> {
        match self.pace {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Closed { .. } => None,
        }
    }

    /// Length of the measured part; `None` if a number of messages ends the run.
    pub fn duration(&self) -> Option<Duration> {
        match self.length {
            Length::Time(time) => Some(time),
            Length::Messages { .. } => None,
        }
    }

    /// Longest time without progress while an answer is owed; `None`: no limit.
    fn timeout(&self) -> Option<Duration> {
        (!self.options.timeout.is_zero()).then_some(self.options.timeout)
    }

    /// Longest wait for the last answers when a time ends the run.
    fn grace(&self) -> Duration {
        let usual = || self.timeout().unwrap_or(GRACE_MAX).min(GRACE_MAX);
        self.options.grace.unwrap_or_else(usual)
    }

    /// The addresses that connections go to, beginning with the one that was reached.
    pub fn addresses(&self, reached: &Connected) -> Vec<Address> {
        let others = if self.options.spread_addresses { &reached.others[..] } else { &[] };
        [std::slice::from_ref(&reached.address), others].concat()
    }

    /// What the engine does with the server at these addresses.
    pub fn shape(&self, addresses: Vec<Address>) -> Shape {
        let seconds = |rate: f64| Duration::from_secs_f64(1.0 / self.places.share(rate));
        let limit = |time: Duration| (!time.is_zero()).then_some(time);
        let connecting = ConnectPlan {
            addresses,
            preface: self.options.send_proxy,
            gap: self.options.connect_rate.map_or(Duration::ZERO, seconds),
            messages: self.options.messages_per_connection.unwrap_or(u64::MAX),
        };
        Shape {
            connecting,
            script: Script::new(self.framing, self.options.size.clone(), self.seed),
            places: self.places,
            pace: self.pace,
            in_flight: usize::try_from(self.in_flight).unwrap_or(usize::MAX),
            length: self.length,
            grace: self.grace(),
            warm_up: self.options.warm_up,
            timeout: self.timeout(),
            answer_timeout: limit(self.options.answer_timeout),
            seed: self.seed,
        }
    }

    /// The same with another rate.
    pub fn with_rate(shape: &Shape, rate: f64) -> Shape {
        let pace = match shape.pace {
            Pace::Open { arrivals, .. } => Pace::Open { rate, arrivals },
            closed @ Pace::Closed { .. } => closed,
        };
        Shape { pace, ..shape.clone() }
    }

    /// The facts that reports state about how it was measured.
    pub fn about(&self) -> About {
        let mut facts = vec![];
        let mut add = |key, name, value: String| facts.push((key, name, value));
        match self.pace {
            Pace::Open { rate, arrivals } => {
                add("loop", "loop", "open: messages are due at fixed times".to_owned());
                if self.options.find_rate.is_none() {
                    add("rate", "total rate", format!("{} messages/s", units::rate(rate)));
                }
                let arrivals = match arrivals {
                    Arrivals::Constant => "constant: evenly spaced",
                    Arrivals::Poisson => "poisson: as independent users come",
                };
                add("arrivals", "arrivals", arrivals.to_owned());
            }
            Pace::Closed { think } => {
                add("loop", "loop", "closed: an answer lets the next message go".to_owned());
                if !think.is_zero() {
                    add("think", "pause after an answer", seconds(think));
                }
            }
        }
        add("concurrency", "concurrent clients", grouped(self.places.of_all));
        add("in_flight", "in flight per connection", grouped(self.in_flight));
        match self.length {
            Length::Messages { clients, each } => {
                add("clients", "clients", grouped(clients));
                add("messages", "messages of each", grouped(each));
            }
            Length::Time(time) => {
                add("duration", "duration", seconds(time));
                add("grace", "wait for the last answers", seconds(self.grace()));
            }
        }
        if !self.options.warm_up.is_zero() {
            add("warm_up", "warm-up", seconds(self.options.warm_up));
        }
        add("size", "payload", format!("{} bytes", self.options.size));
        add("framing", "framing", self.framing.to_string());
        if let Some(preface) = &self.options.send_proxy {
            let described = send_proxy::described(preface, self.target.is_unix());
            add("send_proxy", "PROXY header", described);
        }
        if let Some(rate) = self.options.connect_rate {
            add("connect_rate", "new connections", format!("{} a second", units::rate(rate)));
        }
        if let Some(messages) = self.options.messages_per_connection {
            add("messages_per_connection", "messages of a connection", grouped(messages));
        }
        add("timeout", "timeout", self.timeout().map_or("none".to_owned(), seconds));
        if !self.options.answer_timeout.is_zero() {
            let answer_timeout = seconds(self.options.answer_timeout);
            add("answer_timeout", "timeout of a whole answer", answer_timeout);
        }
        if let Some(shard) = self.shard {
            add("shard", "shard", shard.to_string());
        }
        if let Some(start_at) = self.options.start_at {
            add("start_at", "start", start_at.to_string());
        }
        add("seed", "seed", self.seed.to_string());
        add("client_host", "client", host());
        add("client_version", "version", format!("trustctl {}", env!("CARGO_PKG_VERSION")));
        About {
            target: self.target.to_string(),
            addresses: vec![],
            is_open_loop: matches!(self.pace, Pace::Open { .. }),
            preface: self.options.send_proxy,
            facts,
            again: self.again.clone(),
        }
    }
}

/// Checks the settings against each other, for any server.
///
/// # Errors
///
/// 64, or 78 for those of the configuration file.
pub fn check(layers: &Layers) -> Result<(), Failure> {
    let nowhere = Target::new("", 0);
    Plan::for_target(nowhere, LoadOptions::of(layers), layers, Family::Any).map(drop)
}

/// The server.
///
/// # Errors
///
/// 64, or 78 if the configuration file is to blame: no server is named, or not in a valid way.
pub fn target(layers: &Layers, arguments: &[OsString], family: Family) -> Result<Target, Failure> {
    let named = SERVER.target(layers, arguments, Arguments::Server, family)?;
    let (target, _) = named.ok_or_else(|| ServerSettings::missing("--host and --port"))?;
    Ok(target)
}

/// When the run of all shards is over.
fn length(layers: &Layers, options: &LoadOptions) -> Result<Length, Failure> {
    let trial = options.find_rate.as_ref().map(|_| TRIAL);
    if let Some(time) = options.duration.or(trial) {
        return Ok(Length::Time(time));
    }
    let clients = match layers.source(&CLIENTS) > Source::Default {
        true => options.clients,
        false => options.concurrency,
    };
    let each = options.messages;
    match clients.checked_mul(each) {
        Some(_) => Ok(Length::Messages { clients, each }),
        None => {
            let why = format!("{each}: more messages than can be counted, with {clients} clients");
            Err(refused(layers, &[&MESSAGES, &CLIENTS, &CONCURRENCY], why))
        }
    }
}

/// The framing, if it and the server take payloads of these sizes.
fn checked_framing(layers: &Layers, options: &LoadOptions) -> Result<Framing, Failure> {
    let framing = options.framing(layers)?;
    let (sizes, max_frame) = (&options.size, options.max_frame);
    let (min, max) = (u64::from(sizes.min()), u64::from(sizes.max()));
    let bytes = |count: u64| format!("{} bytes", grouped(count));
    let wrong = match &framing {
        Framing::Raw if min == 0 => Some("a raw message has at least 1 byte".to_owned()),
        Framing::Length(format) if max > format.max_payload() => {
            let largest = bytes(format.max_payload());
            Some(format!("framing {framing} has payloads of at most {largest}"))
        }
        Framing::Length(format) if min < format.min_payload() => {
            let smallest = bytes(format.min_payload());
            Some(format!("framing {framing} has payloads of at least {smallest}"))
        }
        // A raw message is no frame, and so has no limit.
        Framing::Length(_) | Framing::Line if max > max_frame => {
            let (max, limit) = (bytes(max), bytes(max_frame));
            let place = layers.place(&MAX_FRAME);
            Some(format!("a payload of {max} is above the server's limit of {limit} ({place})"))
        }
        _ => None,
    };
    match wrong {
        Some(wrong) => {
            let settings: [&dyn AnySetting; 4] = [&SIZE, &FRAMING, &RAW, &MAX_FRAME];
            let given = layers.text(&SIZE).0.unwrap_or_default();
            Err(refused(layers, &settings, format_args!("{}: {wrong}", given.to_string_lossy())))
        }
        None => Ok(framing),
    }
}

/// What is wrong with the first of these settings, given the others.
fn refused(layers: &Layers, settings: &[&dyn AnySetting], why: impl fmt::Display) -> Failure {
    Failure::new(layers.blame(settings), format!("{} {why}", layers.place(settings[0])))
}

/// The command that repeats the same load, without the flags for its results.
fn again(
    layers: &Layers,
    arguments: &[OsString],
    family: Family,
    seed: u64,
    shard: Option<Shard>,
) -> String {
    let left_out: [&dyn AnySetting; 8] =
        [&JSON, &CSV, &HDR_LOG, &HTML, &START_AT, &SEED, &SHARD, &WAIT];
    let names_server = [HOST.key, PORT.key];
    let is_left_out = |key: &str| {
        let is_beaten = !arguments.is_empty() && names_server.contains(&key);
        is_beaten || left_out.iter().any(|setting| setting.key == key)
    };
    let mut words = vec!["trustctl".to_owned(), NAME.to_owned()];
    words.extend(arguments.iter().map(shell_word));
    words.extend(family.flag().map(str::to_owned));
    words.extend(said(layers, SETTINGS.iter().copied().filter(|s| !is_left_out(s.key))));
    // Its index may come from the environment, which the next run does not have.
    words.extend(shard.map(|shard| format!("{} {shard}", SHARD.flag())));
    words.push(format!("--seed {seed}"));
    words.join(" ")
}

/// This machine: its name, kernel and processors.
fn host() -> String {
    let name = rustix::system::uname();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{}, {} {} {}, {processors} processors",
        shell_word(&*name.nodename().to_string_lossy()),
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy(),
        name.machine().to_string_lossy()
    )
}
