//! The events of a server, as lines of the event log.

use std::collections::BTreeMap;
use std::time::Duration;

use trust_cli::accept_events::{self, AT_CAPACITY, with_errno, with_peer};
use trust_cli::error_map;
use trust_cli::event_log::{self, EventLog, Missing};
use trust_cli::foreign;
use trust_cli::level::Level;
use trust_cli::log_sink::{FILE, STDOUT};
use trust_cli::text::milliseconds;
use trust_cli::zone;
use trust_net::address::Family;
use trust_net::errno;
use trust_net::observer::{ChildExit, ClientInfo, Stats};
use trust_net::wire::{Disconnect, During, Mode, Opening, Protocol, Reason, Totals};

use trust_net::{Address, Event, Model, Observer, ServerConfig};

use crate::server::proxy;

/// Writes what happens in a server to the event log.
pub struct ServerEvents {
    log: EventLog,
    config: ServerConfig,
    /// Listening sockets that the server was started with.
    handed_over: usize,
    wants_frames: bool,
}

impl ServerEvents {
    /// The limits are repeated in the events of those who exceed them.
    pub fn new(log: EventLog, config: ServerConfig) -> ServerEvents {
        let wants_frames = log.enabled(Level::Debug);
        ServerEvents { log, config, handed_over: 0, wants_frames }
    }

    /// The same for a server that was handed so many listening sockets.
    pub fn with_handed_over(self, handed_over: usize) -> ServerEvents {
        ServerEvents { handed_over, ..self }
    }

    fn write_start(&self, addresses: &[Address], backlog: Option<u32>) {
        let config = &self.config;
        let all: Vec<String> = addresses.iter().map(shown).collect();
        let event = self.log.event(Level::Info, "server_start");
        let event = match &addresses[0] {
            Address::Ip(first) => {
                event.field("addr", &zone::shown_ip(first)).field("port", &first.port())
            }
            Address::Unix(name) => event.field("addr", &format_args!("{name}")),
        };
        let event = event
            .field("addresses", &all)
            .field("mode", mode_name(config.limits.mode))
            .field("model", ModelName::of(&config.model).word())
            .field("workers", &config.workers)
            .field("max_frame_bytes", &config.limits.max_payload)
            .field("timeout_sec", &config.limits.timeout.unwrap_or_default().as_secs_f64())
            .field("max_clients", &config.max_clients)
            .field("pid", &std::process::id());
        let event = match config.limits.proxy_header {
            Some(_) => event.field("proxy_protocol", &true),
            None => event,
        };
        let event = match backlog {
            Some(backlog) => event.field("backlog", &backlog),
            None => event,
        };
        match self.handed_over {
            0 => event.write(),
            listeners => event.field("listeners", &listeners).write(),
        }
    }

    fn client_event(
        &self,
        level: Level,
        name: &'static str,
        client: &ClientInfo,
    ) -> event_log::EventBuilder<'_> {
        let event = self.log.event(level, name);
        let event = event.field("conn", &client.id).field("client_fd", &client.fd);
        let event = with_peer(event, &client.peer);
        match &client.proxy {
            Some(proxy) => event.field("proxy", &format_args!("{proxy}")),
            None => event,
        }
    }

    /// An event that is named by the error table.
    fn errno_event(
        &self,
        client: &ClientInfo,
        errno: i32,
        during: During,
    ) -> event_log::EventBuilder<'_> {
        let row = error_map::find(errno, during);
        with_errno(self.client_event(row.level, row.event, client), errno)
    }

    fn write_cause(
        &self,
        client: &ClientInfo,
        cause: &Disconnect,
        totals: &Totals,
        opening: Option<&Opening>,
    ) {
        if matches!(cause.reason, Reason::PeerFin | Reason::TruncatedFrame { .. }) {
            self.client_event(Level::Info, "client_disconnect", client).write();
        }
        let warn = |name| self.client_event(Level::Warn, name, client);
        let seconds = |limit: Option<Duration>| limit.unwrap_or_default().as_secs_f64();
        let limits = &self.config.limits;
        let event = match cause.reason {
            // No one did anything wrong: `client_close` says it all.
            Reason::PeerFin | Reason::Drain | Reason::SecondSignal | Reason::AtCapacity => return,
            // `child_exit` has said it.
            Reason::ChildDied => return,
            Reason::TruncatedFrame { have, need } => {
                warn("truncated_frame").field("have_bytes", &have).field("need_bytes", &need)
            }
            Reason::FrameTooLarge { declared } => {
                let event = warn("frame_too_large")
                    .field("declared_bytes", &declared)
                    .field("max_frame_bytes", &limits.max_payload);
                return self.with_opening(event, opening).write();
            }
            Reason::ProxyHeaderInvalid(bad) => {
                let event = warn("proxy_header_invalid").field("problem", &proxy::problem(bad));
                return with_strange_opening(event, opening).write();
            }
            Reason::ProxyHeaderTimeout => {
                let event = warn("proxy_header_timeout")
                    .field("proxy_timeout_sec", &seconds(limits.proxy_header));
                return with_strange_opening(event, opening).write();
            }
            Reason::RecvTimeout => self
                .errno_event(client, errno::WOULD_BLOCK, During::Receive)
                .field("timeout_sec", &seconds(limits.timeout)),
            Reason::SendTimeout => {
                let limit = match cause.during {
                    During::Send => limits.timeout,
                    // It waited for the peer's FIN too.
                    During::Receive => Some(limits.linger_timeout),
                };
                self.errno_event(client, errno::WOULD_BLOCK, During::Send)
                    .field("timeout_sec", &seconds(limit))
            }
            Reason::FrameTimeout => {
                warn("frame_timeout").field("frame_timeout_sec", &seconds(limits.frame_timeout))
            }
            Reason::MaxLifetime => {
                warn("max_lifetime").field("max_lifetime_sec", &seconds(limits.max_lifetime))
            }
            Reason::DrainTimeout => warn("drain_timeout")
                .field("drain_timeout_sec", &self.config.drain_timeout.as_secs_f64()),
            // So balancers look whether a server accepts: nothing was asked, and nothing was lost.
            // Of a connection that has begun its PROXY header there is an opening.
            Reason::ClientReset if totals.bytes_in == 0 && opening.is_none() => {
                let errno = cause.errno.unwrap_or_default();
                with_errno(self.client_event(Level::Info, "client_reset", client), errno)
            }
            Reason::ClientReset
            | Reason::BrokenPipe
            | Reason::ClientUnreachable
            | Reason::IoError => {
                self.errno_event(client, cause.errno.unwrap_or_default(), cause.during)
            }
        };
        // A right frame that stays unfinished is nothing to show.
        self.with_opening(event, opening.filter(|it| it.protocol().is_some())).write();
    }

    /// Adds how the stream began, and what that looks like.
    fn with_opening<'a>(
        &self,
        event: event_log::EventBuilder<'a>,
        opening: Option<&Opening>,
    ) -> event_log::EventBuilder<'a> {
        let Some(opening) = opening else { return event };
        let event = event.field("first_bytes", &foreign::shown(opening.bytes()));
        let reads_headers = self.config.limits.proxy_header.is_some();
        match opening.protocol() {
            None => event,
            Some(Protocol::Text) => event.field("hint", TEXT_HINT),
            Some(protocol) => {
                let named = foreign::named(protocol);
                let remedy = match protocol {
                    Protocol::ProxyV1 | Protocol::ProxyV2 if !reads_headers => PROXY_REMEDY,
                    _ => "",
                };
                event.field("hint", &format_args!("looks like {named}{remedy}"))
            }
        }
    }
}

impl Observer for ServerEvents {
    fn wants_frames(&self) -> bool {
        self.wants_frames
    }

    fn wants_paths(&self) -> bool {
        self.log.enabled(Level::Info)
    }

    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Started { addresses, backlog } => self.write_start(addresses, backlog),
            Event::Connected(client) => {
                self.client_event(Level::Info, "client_connect", client).write();
            }
            Event::FrameReceived { client, payload_len } => {
                self.frame_event("frame_recv", client, payload_len);
            }
            Event::FrameSent { client, payload_len } => {
                self.frame_event("frame_send", client, payload_len);
            }
            Event::Recognised { client, opening } => {
                let event = self.client_event(Level::Info, "foreign_protocol", client);
                self.with_opening(event, Some(opening)).write();
            }
            Event::Ending { client, cause, totals, opening } => {
                self.write_cause(client, cause, &totals, opening);
            }
            Event::Closed { client, cause, mode, totals, lifetime, path } => {
                let event = self
                    .client_event(Level::Info, "client_close", client)
                    .field("reason", reason_name(&cause.reason))
                    .field("mode", mode_name(mode));
                let event =
                    with_totals(event, &totals).field("duration_ms", &milliseconds(lifetime));
                if client.peer.family() == Family::Unix {
                    return event.write();
                }
                let path = path.unwrap_or_default();
                event
                    .field("rtt_us", &path.round_trip.as_micros())
                    .field("retransmits", &path.retransmits)
                    .field("unacked_bytes", &path.unacknowledged)
                    .write();
            }
            Event::ChildStarted { client, pid } => {
                self.client_event(Level::Info, "child_start", client).field("pid", &pid).write();
            }
            Event::ChildFailed { client, errno } => {
                with_errno(self.client_event(Level::Error, "child_start_failed", client), errno)
                    .write();
            }
            Event::ChildExited { client, pid, exit, unlogged } => {
                self.log.add_missing(Missing { sink: FILE, lines: unlogged.file });
                self.log.add_missing(Missing { sink: STDOUT, lines: unlogged.stdout });
                self.write_exit(client, pid, exit);
            }
            Event::Stats(stats) => self.write_stats(stats),
            ref event => drop(accept_events::write(&self.log, event)),
        }
    }
}

impl ServerEvents {
    fn frame_event(&self, name: &'static str, client: &ClientInfo, payload_len: usize) {
        self.client_event(Level::Debug, name, client).field("payload_len", &payload_len).write();
    }

    fn write_exit(&self, client: &ClientInfo, pid: u32, exit: ChildExit) {
        let level = if exit == ChildExit::Status(0) { Level::Info } else { Level::Warn };
        let event = self.client_event(level, "child_exit", client).field("pid", &pid);
        match exit {
            ChildExit::Status(status) => event.field("exit", &status).write(),
            ChildExit::Signal(number) => {
                let name = signal_hook::low_level::signal_name(number).unwrap_or("unknown");
                event.field("signal", name).field("signal_number", &number).write();
            }
        }
    }

    fn write_stats(&self, stats: &Stats) {
        let closed = Reason::KINDS.iter().zip(stats.closed).filter(|(_, count)| *count > 0);
        let by_reason: BTreeMap<&str, u64> =
            closed.map(|(reason, count)| (reason_name(reason), count)).collect();
        let by_state = BTreeMap::from([
            ("connected", stats.connected),
            ("open", stats.open),
            ("lingering", stats.lingering),
        ]);
        let event = self
            .log
            .event(Level::Info, "server_stats")
            .field("uptime_ms", &milliseconds(stats.uptime))
            .field("connections", &stats.connections)
            .field("rejected", &stats.rejected)
            .field("active", &stats.active());
        with_totals(event, &stats.totals)
            .field("by_state", &by_state)
            .field("by_reason", &by_reason)
            .write();
    }
}

/// The word for a reason in events.
pub const fn reason_name(reason: &Reason) -> &'static str {
    match reason {
        Reason::PeerFin => "peer_fin",
        Reason::TruncatedFrame { .. } => "truncated_frame",
        Reason::FrameTooLarge { .. } => "frame_too_large",
        Reason::RecvTimeout => "recv_timeout",
        Reason::MaxLifetime => "max_lifetime",
        Reason::Drain => "drain",
        Reason::SendTimeout => "send_timeout",
        Reason::FrameTimeout => "frame_timeout",
        Reason::DrainTimeout => "drain_timeout",
        Reason::SecondSignal => "second_signal",
        Reason::ClientReset => "client_reset",
        Reason::BrokenPipe => "broken_pipe",
        Reason::ClientUnreachable => "client_unreachable",
        Reason::IoError => "io_error",
        Reason::AtCapacity => AT_CAPACITY,
        Reason::ChildDied => "child_died",
        Reason::ProxyHeaderInvalid(_) => "proxy_header_invalid",
        Reason::ProxyHeaderTimeout => "proxy_header_timeout",
    }
}

/// The word for a mode in events and settings.
pub const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Framed => "framed",
        Mode::Raw => "raw",
    }
}

/// A model as events and settings name it, without how children are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelName {
    Event,
    Iterative,
    Process,
}

impl ModelName {
    pub(crate) const ALL: [ModelName; 3] =
        [ModelName::Event, ModelName::Iterative, ModelName::Process];

    fn of(model: &Model) -> ModelName {
        match model {
            Model::Event => ModelName::Event,
            Model::Iterative => ModelName::Iterative,
            Model::Process(_) => ModelName::Process,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            ModelName::Event => "event",
            ModelName::Iterative => "iterative",
            ModelName::Process => "process",
        }
    }

    /// The model with that name.
    pub(crate) fn parse(word: &str) -> Option<ModelName> {
        ModelName::ALL.into_iter().find(|model| model.word() == word)
    }
}

/// The mode with that name.
pub fn parse_mode(name: &str) -> Option<Mode> {
    [Mode::Auto, Mode::Framed, Mode::Raw].into_iter().find(|mode| mode_name(*mode) == name)
}

/// Adds the counts of bytes and frames.
pub fn with_totals<'a>(
    event: event_log::EventBuilder<'a>,
    totals: &Totals,
) -> event_log::EventBuilder<'a> {
    event
        .field("bytes_in", &totals.bytes_in)
        .field("bytes_out", &totals.bytes_out)
        .field("frames_in", &totals.frames_in)
        .field("frames_out", &totals.frames_out)
}

/// An address with its port, or a unix socket.
fn shown(address: &Address) -> String {
    match address {
        Address::Ip(address) => zone::shown(address),
        Address::Unix(name) => name.to_string(),
    }
}

/// Adds how a stream began that has no PROXY header, and what that looks like.
fn with_strange_opening<'a>(
    event: event_log::EventBuilder<'a>,
    opening: Option<&Opening>,
) -> event_log::EventBuilder<'a> {
    let Some(opening) = opening else { return event };
    let event = event.field("first_bytes", &foreign::shown(opening.bytes()));
    match opening.protocol() {
        // What is wrong with a header was said, and text is seen.
        None | Some(Protocol::ProxyV1 | Protocol::ProxyV2 | Protocol::Text) => event,
        Some(protocol) => {
            event.field("hint", &format_args!("looks like {}", foreign::named(protocol)))
        }
    }
}

/// Frames only is what the server was told, so it is worth a word what is right for text.
const TEXT_HINT: &str = "looks like text without frames, which --mode raw or auto echoes";

/// The hint for a client that sends a header which the server was not told to expect.
const PROXY_REMEDY: &str = ", which --proxy-protocol reads";
