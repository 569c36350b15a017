//! Plays one script against its own server.

use std::time::Duration;

use rustix::event::{PollFd, Timespec, poll};
use rustix::process::Signal;
use trust_sim::rng::Rng;
use trust_sim::script::Script;
use trust_wire::Mode;

use super::client::Client;
use super::history::History;
use super::host::{Host, Networks};
use super::watch::{LagMeter, Span, Watch};
use trust_testkit::event::Event;
use trust_testkit::model::Model;
use trust_testkit::server::Server;
use trust_testkit::{STEP_DEADLINE, kernel};

/// Longest sleep of the driver while nothing is due: how soon it notices that everything is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long after the end of the server clients go on reading bytes in flight: TCP retries within
/// as much after the longest outage.
const READ_ON: Duration = Duration::from_millis(2_500);

/// When a script counts as hung: longer than the latest stop, the longest drain, all pauses and
/// reading on.
const HUNG_AFTER: Duration = Duration::from_secs(20);

/// The size of a script's send buffer, in bytes, up to which the narrow network is used.
const NARROW: usize = 4096;

/// Seed component for a script's extras, which the simulation does not use.
const EXTRAS: u64 = 0x1009_ba5e;

/// What a server is asked to do beyond the script.
#[derive(Clone, Debug)]
pub(crate) struct Extras {
    pub(crate) model: Model,
    pub(crate) workers: usize,
    /// When to ask for its statistics.
    pub(crate) stats_at: Duration,
}

impl Extras {
    fn of(seed: u64, script: &Script) -> Extras {
        let mut rng = Rng::new(seed ^ EXTRAS);
        let is_iterative = script.clients.len() == 1 && rng.one_in(3);
        // Two workers would race for the only slot, and both be right.
        let is_alone = is_iterative || script.max_clients == 1 || rng.one_in(2);
        Extras {
            model: if is_iterative { Model::Iterative } else { Model::Event },
            workers: if is_alone { 1 } else { 2 },
            stats_at: rng.time_up_to(script.drain_at),
        }
    }
}

/// The outcome of playing a script.
pub(crate) struct Played {
    pub(crate) script: Script,
    pub(crate) extras: Extras,
    pub(crate) flags: Vec<String>,
    pub(crate) watch: Watch,
    pub(crate) histories: Vec<History>,
    pub(crate) pauses: Vec<Span>,
    pub(crate) stats_asked: Option<Span>,
    pub(crate) told_to_stop: Span,
    pub(crate) told_again: Option<Span>,
    /// The server's peak memory, in bytes, before it was told to stop.
    pub(crate) peak_memory: u64,
    /// Every connection was over before the server was told to stop, and its descriptors were
    /// counted.
    pub(crate) was_quiet: bool,
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Event>,
    pub(crate) lag: Duration,
    /// How far the two clocks have drifted apart.
    pub(crate) drift: Duration,
    pub(crate) took: Duration,
}

/// Plays the script of `seed` in one of the networks; `number` distinguishes it from the others of
/// the run.
#[track_caller]
pub(crate) fn play(seed: u64, number: u16, networks: &Networks, meter: &LagMeter) -> Played {
    let script = Script::on_loopback(seed);
    let is_narrow = script.clients.iter().any(|client| client.path.server_send_buffer <= NARROW);
    networks.inside(is_narrow, || play_here(seed, script, number, meter))
}

#[track_caller]
fn play_here(seed: u64, script: Script, number: u16, meter: &LagMeter) -> Played {
    let extras = Extras::of(seed, &script);
    let flags = flags(&script, &extras);
    let server = Server::of(extras.model, &flags);
    let watch = Watch::start();
    let clients = script.clients.iter().enumerate();
    let mut stage = Stage {
        clients: clients
            .map(|(index, client)| Client::new(client, Host::new(number, index), watch))
            .collect(),
        descriptors: server.descriptor_count(),
        server,
        watch,
        pauses: vec![],
        continues_at: None,
        pauses_done: 0,
        stats_asked: None,
        told_to_stop: None,
        told_again: None,
        ended_at: None,
        peak_memory: 0,
        quiet_since: None,
        late: Duration::ZERO,
        script: &script,
        extras: &extras,
    };
    stage.play();
    let Stage { clients, server, pauses, stats_asked, told_to_stop, told_again, .. } = stage;
    let (peak_memory, was_quiet, late) =
        (stage.peak_memory, stage.quiet_since.is_some(), stage.late);
    let (code, events) = server.has_ended();
    let lag = meter.worst_since(watch.instant(Duration::ZERO)).max(late);
    Played {
        histories: clients.into_iter().map(|client| client.history).collect(),
        told_to_stop: told_to_stop.expect("every script ends with a signal"),
        drift: watch.drift(),
        took: watch.now(),
        script,
        extras,
        flags,
        watch,
        pauses,
        stats_asked,
        told_again,
        peak_memory,
        was_quiet,
        code,
        events,
        lag,
    }
}

fn flags(script: &Script, extras: &Extras) -> Vec<String> {
    let limits = &script.limits;
    let mode = match limits.mode {
        Mode::Auto => "auto",
        Mode::Framed => "framed",
        Mode::Raw => "raw",
    };
    let seconds = |limit: Duration| limit.as_secs_f64().to_string();
    let or_off = |limit: Option<Duration>| seconds(limit.unwrap_or_default());
    [
        ("--mode", mode.to_owned()),
        ("--max-frame", limits.max_payload.to_string()),
        ("--timeout", or_off(limits.timeout)),
        ("--frame-timeout", or_off(limits.frame_timeout)),
        ("--linger-timeout", seconds(limits.linger_timeout)),
        ("--max-lifetime", or_off(limits.max_lifetime)),
        ("--drain-timeout", seconds(script.drain_timeout)),
        ("--max-clients", script.max_clients.to_string()),
        ("--workers", extras.workers.to_string()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

struct Stage<'a> {
    script: &'a Script,
    extras: &'a Extras,
    server: Server,
    watch: Watch,
    clients: Vec<Client>,
    /// Descriptors of the server before the first client.
    descriptors: usize,
    pauses: Vec<Span>,
    pauses_done: usize,
    /// When the current pause ends.
    continues_at: Option<Duration>,
    stats_asked: Option<Span>,
    told_to_stop: Option<Span>,
    told_again: Option<Span>,
    ended_at: Option<Duration>,
    peak_memory: u64,
    /// When every connection was over, if that was before the stop.
    quiet_since: Option<Duration>,
    /// The worst lateness of the driver itself.
    late: Duration,
}

impl Stage<'_> {
    #[track_caller]
    fn play(&mut self) {
        let mut due = self.watch.now();
        loop {
            let now = self.watch.now();
            assert!(now < HUNG_AFTER, "no end after {now:?}, {} printed", self.server.printed());
            self.pause_or_continue();
            self.signal();
            for client in &mut self.clients {
                if self.told_to_stop.is_none() {
                    client.connect_if_due(self.server.address());
                }
                client.take_turn();
            }
            let is_over = self.is_over();
            // A client whose turn was last may have waited this long.
            self.late = self.late.max(self.watch.now().saturating_sub(due));
            if is_over {
                return;
            }
            due = self.wait();
        }
    }

    fn pause_or_continue(&mut self) {
        let now = self.watch.now();
        if self.continues_at.is_some_and(|at| at <= now) {
            self.continues_at = None;
            self.server.signal(Signal::CONT);
            let pause = self.pauses.last_mut().expect("a pause is under way");
            pause.to = self.watch.now();
        }
        let Some(pause) = self.script.pauses.get(self.pauses_done) else { return };
        if pause.at <= now && self.continues_at.is_none() && self.ended_at.is_none() {
            self.pauses_done += 1;
            self.server.signal(Signal::STOP);
            // The final value is set when it is over.
            self.pauses.push(Span { from: now, to: now + pause.length });
            self.continues_at = Some(now + pause.length);
        }
    }

    #[track_caller]
    fn signal(&mut self) {
        let now = self.watch.now();
        if let Some(told) = self.told_to_stop {
            let again_at = self.script.second_signal_after.map(|after| told.to + after);
            if self.told_again.is_none() && again_at.is_some_and(|at| at <= now) {
                let (span, ()) = self.watch.span(|| self.server.signal(Signal::TERM));
                self.told_again = Some(span);
            }
            return;
        }
        if self.stats_asked.is_none() && self.extras.stats_at <= now {
            let (span, ()) = self.watch.span(|| self.server.signal(Signal::USR1));
            self.stats_asked = Some(span);
        }
        if self.quiet_since.is_none() && self.continues_at.is_none() && self.is_quiet() {
            self.quiet_since = Some(now);
        }
        let is_due = match self.quiet_since {
            Some(since) => self.are_descriptors_back(now.saturating_sub(since)),
            None => self.script.drain_at <= now,
        };
        if is_due {
            self.peak_memory = kernel::status_bytes(self.server.pid(), "VmHWM");
            let address = self.server.address();
            self.clients.iter_mut().for_each(|client| client.note_signal(address));
            let (span, ()) = self.watch.span(|| self.server.signal(Signal::TERM));
            self.told_to_stop = Some(span);
        }
    }

    /// Whether the server has as many descriptors as before the first client. It must, soon.
    #[track_caller]
    fn are_descriptors_back(&self, waited: Duration) -> bool {
        let (count, before) = (self.server.descriptor_count(), self.descriptors);
        let is_back = count == before;
        assert!(is_back || waited < STEP_DEADLINE, "{count} descriptors, {before} before");
        is_back
    }

    /// Whether every client has come and every connection is over, according to the log.
    fn is_quiet(&self) -> bool {
        if self.clients.iter().any(|client| client.history.connected.is_none()) {
            return false;
        }
        let printed = self.server.printed();
        let count = |name: &str| printed.matches(&format!("\"event\":\"{name}\"")).count();
        // A client missing from the log was rejected if it has seen its end; otherwise it may just
        // have come.
        let is_over = |client: &Client| {
            let peer = format!("\"peer\":\"{}\"", client.history.address);
            client.history.end.is_some() || printed.contains(&peer)
        };
        count("client_connect") == count("client_close") && self.clients.iter().all(is_over)
    }

    /// Whether the server has ended, and the clients have read everything there was for them.
    fn is_over(&mut self) -> bool {
        if self.told_to_stop.is_none() || self.continues_at.is_some() {
            return false;
        }
        let now = self.watch.now();
        if self.ended_at.is_none() && kernel::all_threads_are(self.server.pid(), 'Z') {
            self.ended_at = Some(now);
        }
        let Some(ended_at) = self.ended_at else { return false };
        let is_through = self.clients.iter().all(Client::is_through) || now > ended_at + READ_ON;
        is_through && !self.clients.iter().any(Client::is_changing)
    }

    /// Waits until something is due or ready; returns when that was, as far as it can tell.
    fn wait(&self) -> Duration {
        let clients = self.clients.iter();
        let next = clients.filter_map(Client::next_time).chain(self.continues_at).min();
        let now = self.watch.now();
        let until = next.unwrap_or(Duration::MAX).min(now + LOOK_INTERVAL);
        let mut awaited: Vec<PollFd<'_>> = self.clients.iter().filter_map(Client::awaits).collect();
        let timeout = Timespec::try_from(until.saturating_sub(now)).expect("some milliseconds");
        // EINTR is treated like any other end of waiting.
        let _ = poll(&mut awaited, Some(&timeout));
        self.watch.now().min(until.max(now))
    }
}
