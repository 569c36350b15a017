//! From settings to what the engine is to do, and what is said about it.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;
use std::{env, fmt, thread};

use jiff::Timestamp;
use trust_cli::again::{said, shell_word};
use trust_cli::exit_code::Failure;
use trust_cli::framing::{self, Framing};
use trust_cli::layers::{Layers, Source};
use trust_cli::settings::AnySetting;
use trust_cli::target::{Family, Target};
use trust_cli::text::{count, grouped, seconds};

use crate::budget::Budget;
use crate::options::{
    ADJUST, ARRIVALS, CLIENTS, CONCURRENCY, CONNECT_RATE, CSV, DURATION, FAIL_IF, FIND_RATE,
    FRAMING, HDR_LOG, HOST, HTML, IN_FLIGHT, JSON, MAX_FRAME, MESSAGES, MESSAGES_PER_CONNECTION,
    NAME, OFFSET, PORT, RATE, RAW, SEED, SETTINGS, SHARD, SIZE, START_AT, THINK, TIMEOUT, WARM_UP,
};
use crate::report::units;
use crate::schedule::Arrivals;
use crate::script::Script;
use crate::shape::{Length, Pace, Places, Shape};
use crate::shard::{INDEX_VARIABLE, Shard};
use crate::sizes::Sizes;
use crate::summary::About;

/// Frames on the way at once on a connection of an open loop: enough that the client hardly ever holds a message back,
/// few enough that a stalled server is not buried under a backlog that it has to read at once.
const IN_FLIGHT_OPEN: u64 = 100;

/// Where the search for a rate begins, in messages a second.
const FIND_FROM: f64 = 1000.0;

/// How long a trial of that search takes: long enough for a 99th percentile of some hundred messages.
const TRIAL: Duration = Duration::from_secs(5);

/// What a run of the load is to do.
#[derive(Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Which of its addresses are tried.
    pub family: Family,
    /// Longest time to connect, and without progress; zero: no limit.
    pub timeout: Duration,
    /// Budgets that are not to be true.
    pub fail_if: Vec<Budget>,
    /// Budgets that are to be true at the rate that is searched for, and where the search begins.
    pub find_rate: Option<(Vec<Budget>, f64)>,
    /// When it starts.
    pub start_at: Option<Timestamp>,
    /// Which part of the load it is.
    pub shard: Option<Shard>,
    /// Decides payloads and arrivals.
    pub seed: u64,
    /// Whether somebody said it.
    pub is_seed_given: bool,
    /// The command that does it again.
    again: String,
    places: Places,
    pace: Pace,
    in_flight: u64,
    length: Length,
    warm_up: Duration,
    connect_rate: Option<f64>,
    messages_per_connection: Option<u64>,
    sizes: Sizes,
    framing: Framing,
}

impl Plan {
    /// What the settings say together.
    ///
    /// # Errors
    ///
    /// 64 without a port, and for settings that do not fit each other; 78 if those are the configuration file's.
    pub fn of(layers: &Layers, family: Family) -> Result<Plan, Failure> {
        let target = Target { host: layers.require(&HOST)?, port: layers.require(&PORT)? };
        Plan::for_target(target, layers, family)
    }

    fn for_target(target: Target, layers: &Layers, family: Family) -> Result<Plan, Failure> {
        let find_rate = layers.get(&FIND_RATE);
        let rate = layers.get(&RATE);
        let is_open = rate.is_some() || find_rate.is_some();
        if !is_open && layers.source(&ARRIVALS) > Source::Default {
            let why = format!("goes only with {}: only an open loop has arrivals", RATE.flag());
            return Err(refused(layers, &[&ARRIVALS], why));
        }
        let concurrency = layers.require(&CONCURRENCY)?;
        let choice = layers.get(&SHARD);
        let shard = choice.map(|choice| choice.shard(env::var_os(INDEX_VARIABLE).as_deref()));
        let shard = shard.transpose().map_err(|error| refused(layers, &[&SHARD], error))?;
        let of_all = length(layers, concurrency, find_rate.is_some())?;
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
        let (framing, sizes) = messages(layers)?;
        let given = layers.get(&SEED);
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one("seed") >> 1);
        let pace = match is_open {
            true => {
                Pace::Open { rate: rate.unwrap_or(FIND_FROM), arrivals: layers.require(&ARRIVALS)? }
            }
            false => Pace::Closed { think: layers.require(&THINK)? },
        };
        Ok(Plan {
            target,
            family,
            timeout: layers.require(&TIMEOUT)?,
            fail_if: layers.get(&FAIL_IF).unwrap_or_default(),
            find_rate: find_rate.map(|budgets| (budgets, rate.unwrap_or(FIND_FROM))),
            start_at: layers.get(&START_AT),
            shard,
            seed,
            is_seed_given: given.is_some(),
            again: again(layers, family, seed, shard),
            places,
            pace,
            in_flight: layers.get(&IN_FLIGHT).unwrap_or(if is_open { IN_FLIGHT_OPEN } else { 1 }),
            length,
            warm_up: layers.require(&WARM_UP)?,
            connect_rate: layers.get(&CONNECT_RATE),
            messages_per_connection: layers.get(&MESSAGES_PER_CONNECTION),
            sizes,
            framing,
        })
    }

    /// Connections at the same time.
    pub fn connections(&self) -> u64 {
        self.places.count
    }

    /// Messages a second that this process is to send; `None` in a closed loop.
    pub fn rate(&self) -> Option<f64> {
        match self.pace {
            Pace::Open { rate, .. } => Some(self.places.share(rate)),
            Pace::Closed { .. } => None,
        }
    }

    /// Messages a second that all shards are to send; `None` in a closed loop.
    pub fn rate_of_all(&self) -> Option<f64> {
        match self.pace {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Closed { .. } => None,
        }
    }

    /// How long the measured part is to be; `None` if messages are counted.
    pub fn duration(&self) -> Option<Duration> {
        match self.length {
            Length::Time(time) => Some(time),
            Length::Messages { .. } => None,
        }
    }

    /// How long each run warms up.
    pub fn warm_up(&self) -> Duration {
        self.warm_up
    }

    /// What the engine is to do with the server at that address.
    pub fn shape(&self, address: SocketAddr) -> Shape {
        let seconds = |rate: f64| Duration::from_secs_f64(1.0 / self.places.share(rate));
        Shape {
            address,
            script: Script::new(self.framing, self.sizes.clone(), self.seed),
            places: self.places,
            pace: self.pace,
            in_flight: usize::try_from(self.in_flight).unwrap_or(usize::MAX),
            length: self.length,
            warm_up: self.warm_up,
            connect_gap: self.connect_rate.map_or(Duration::ZERO, seconds),
            messages_per_connection: self.messages_per_connection.unwrap_or(u64::MAX),
            timeout: (!self.timeout.is_zero()).then_some(self.timeout),
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

    /// What is said about how it was measured.
    pub fn about(&self) -> About {
        let mut facts = vec![];
        let mut add = |key, name, value: String| facts.push((key, name, value));
        match self.pace {
            Pace::Open { rate, arrivals } => {
                add("loop", "loop", "open: messages are due at their times".to_owned());
                if self.find_rate.is_none() {
                    add("rate", "rate of all clients", format!("{} messages/s", units::rate(rate)));
                }
                let arrivals = match arrivals {
                    Arrivals::Constant => "constant: the same time apart",
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
        add("concurrency", "clients at the same time", grouped(self.places.of_all));
        add("in_flight", "frames in flight on each", grouped(self.in_flight));
        match self.length {
            Length::Messages { clients, each } => {
                add("clients", "clients", grouped(clients));
                add("messages", "messages of each", grouped(each));
            }
            Length::Time(time) => add("duration", "duration", seconds(time)),
        }
        if !self.warm_up.is_zero() {
            add("warm_up", "warm-up", seconds(self.warm_up));
        }
        add("size", "payload", format!("{} bytes", self.sizes));
        add("framing", "framing", self.framing.to_string());
        if let Some(rate) = self.connect_rate {
            add("connect_rate", "new connections", format!("{} a second", units::rate(rate)));
        }
        if let Some(messages) = self.messages_per_connection {
            add("messages_per_connection", "messages of a connection", grouped(messages));
        }
        let timeout = match self.timeout.is_zero() {
            true => "none".to_owned(),
            false => seconds(self.timeout),
        };
        add("timeout", "timeout", timeout);
        if let Some(shard) = self.shard {
            add("shard", "shard", shard.to_string());
        }
        if let Some(start_at) = self.start_at {
            add("start_at", "start", start_at.to_string());
        }
        add("seed", "seed", self.seed.to_string());
        add("client_host", "client", host());
        add("client_version", "version", format!("trustctl {}", env!("CARGO_PKG_VERSION")));
        About {
            target: self.target.to_string(),
            is_open_loop: matches!(self.pace, Pace::Open { .. }),
            facts,
            again: self.again.clone(),
        }
    }
}

/// Checks the settings against each other, whatever server they are for.
///
/// # Errors
///
/// 64, or 78 for those of the configuration file.
pub fn check(layers: &Layers) -> Result<(), Failure> {
    let nowhere = Target { host: String::new(), port: 0 };
    Plan::for_target(nowhere, layers, Family::Any).map(drop)
}

/// When the run of all shards is over.
fn length(layers: &Layers, concurrency: u64, is_search: bool) -> Result<Length, Failure> {
    match layers.get(&DURATION) {
        Some(time) => return Ok(Length::Time(time)),
        None if is_search => return Ok(Length::Time(TRIAL)),
        None => {}
    }
    let clients = match layers.source(&CLIENTS) > Source::Default {
        true => layers.require(&CLIENTS)?,
        false => concurrency,
    };
    let each = layers.require(&MESSAGES)?;
    match clients.checked_mul(each) {
        Some(_) => Ok(Length::Messages { clients, each }),
        None => {
            let why = format!("{each}: more messages than can be counted, with {clients} clients");
            Err(refused(layers, &[&MESSAGES, &CLIENTS, &CONCURRENCY], why))
        }
    }
}

/// The framing, and sizes of payloads that it and the server take.
fn messages(layers: &Layers) -> Result<(Framing, Sizes), Failure> {
    let framing = match layers.get(&RAW) == Some(true) {
        true => Framing::Raw,
        false => framing::of_settings(layers, &FRAMING, &OFFSET, &ADJUST)?,
    };
    let (sizes, max_frame) = (layers.require(&SIZE)?, layers.require(&MAX_FRAME)?);
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
            Err(refused(layers, &settings, format_args!("{sizes}: {wrong}")))
        }
        None => Ok((framing, sizes)),
    }
}

/// What is wrong with the first of these settings, given the others.
fn refused(layers: &Layers, settings: &[&dyn AnySetting], why: impl fmt::Display) -> Failure {
    Failure::new(layers.blame(settings), format!("{} {why}", layers.place(settings[0])))
}

/// The command that makes the same load again, without where its results go.
fn again(layers: &Layers, family: Family, seed: u64, shard: Option<Shard>) -> String {
    let left_out: [&dyn AnySetting; 7] = [&JSON, &CSV, &HDR_LOG, &HTML, &START_AT, &SEED, &SHARD];
    let is_left_out = |key: &str| left_out.iter().any(|setting| setting.key() == key);
    let mut words = vec!["trustctl".to_owned(), NAME.to_owned()];
    words.extend(family.flag().map(str::to_owned));
    words.extend(said(layers, SETTINGS.iter().copied().filter(|s| !is_left_out(s.key()))));
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
