//! The events of the proxy, as lines of the event log.

use std::collections::BTreeMap;
use std::time::Duration;

use trust_cli::accept_events::{self, with_peer};
use trust_cli::event_log::{EventBuilder, EventLog};
use trust_cli::exit_code::Failure;
use trust_cli::level::Level;
use trust_cli::text::milliseconds;
use trust_cli::zone;
use trust_net::{Address, Event, Observer, Peer};
use trust_wire::ErrnoClass;
use trust_wire::relay::{FiredFault, LostFraming, StreamEnd};

use crate::rules::{Direction, Rule, Rules};

/// Why a relayed connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RelayReason {
    /// Both sides sent FIN, and everything was passed on.
    Fin,
    /// The client's connection failed first.
    ClientFailed,
    /// The upstream's connection failed first.
    UpstreamFailed,
    /// No address of the upstream answered.
    ConnectFailed,
    /// A fault rule ended it.
    Fault,
    /// Somebody has asked for that through the API.
    Api,
    /// The proxy is stopping, and the time for that is over.
    DrainTimeout,
    /// The proxy was told a second time to stop.
    SecondSignal,
}

impl RelayReason {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            RelayReason::Fin => "fin",
            RelayReason::ClientFailed => "client_failed",
            RelayReason::UpstreamFailed => "upstream_failed",
            RelayReason::ConnectFailed => "connect_failed",
            RelayReason::Fault => "fault",
            RelayReason::Api => "api",
            RelayReason::DrainTimeout => "drain_timeout",
            RelayReason::SecondSignal => "second_signal",
        }
    }
}

/// How a side's stream ended, as events say it.
const fn end_word(end: StreamEnd) -> &'static str {
    match end {
        StreamEnd::None => "open",
        StreamEnd::Fin => "fin",
        StreamEnd::Failed(_, ErrnoClass::Reset | ErrnoClass::BrokenPipe) => "rst",
        StreamEnd::Failed(_, ErrnoClass::Unreachable) => "unreachable",
        StreamEnd::Failed(_, ErrnoClass::Other) => "io_error",
    }
}

/// What the proxy did to a side in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// FIN.
    Fin,
    /// RST.
    Rst,
    /// A close in place of RST, which unix sockets do not have.
    Close,
    /// Nothing: it was gone, or never there.
    Nothing,
}

impl Got {
    const fn word(self) -> &'static str {
        match self {
            Got::Fin => "fin",
            Got::Rst => "rst",
            Got::Close => "close",
            Got::Nothing => "none",
        }
    }
}

/// A client, as events name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientName {
    /// 1, 2, 3, … in the order of acceptance.
    pub(crate) id: u64,
    pub(crate) fd: i32,
    pub(crate) peer: Peer,
}

/// How a side ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SideReport {
    pub(crate) end: StreamEnd,
    pub(crate) got: Got,
    /// Bytes that came from it.
    pub(crate) bytes: u64,
    /// How many whole frames they were, if frames are followed.
    pub(crate) frames: Option<u64>,
    /// How many of them the other side had not acknowledged.
    pub(crate) undelivered: u64,
}

/// What the proxy did so far.
#[derive(Debug, Default)]
pub(crate) struct RelayTotals {
    pub(crate) connections: u64,
    pub(crate) rejected: u64,
    /// Bytes from closed connections, client to server and back.
    pub(crate) bytes: [u64; 2],
    pub(crate) by_reason: BTreeMap<RelayReason, u64>,
    pub(crate) drained: u64,
    pub(crate) cut: u64,
}

/// Writes events.
pub(crate) struct ProxyEvents {
    pub(crate) log: EventLog,
}

impl Observer for ProxyEvents {
    fn observe(&self, event: &Event<'_>) {
        accept_events::write(&self.log, event);
    }
}

impl ProxyEvents {
    pub(crate) fn write_listening(&self, addresses: &[Address], upstream: &str) {
        let all: Vec<String> = addresses.iter().map(zone::shown_address).collect();
        let event = with_first(self.log.event(Level::Info, "proxy_listen"), addresses);
        let event = event.field("addresses", &all);
        event.field("upstream", upstream).write();
    }

    pub(crate) fn write_start(
        &self,
        first: &[Address],
        pairs: usize,
        rules: &Rules,
        max_clients: usize,
    ) {
        let event = with_first(self.log.event(Level::Info, "proxy_start"), first);
        let event = event.field("pairs", &pairs);
        let event = match rules.len() {
            0 => event,
            count => event.field("rules", &count).field("seed", &rules.seed()),
        };
        event.field("max_clients", &max_clients).field("pid", &std::process::id()).write();
    }

    fn client_event(
        &self,
        level: Level,
        name: &'static str,
        client: &ClientName,
    ) -> EventBuilder<'_> {
        let event = self.log.event(level, name);
        with_peer(event.field("conn", &client.id).field("client_fd", &client.fd), &client.peer)
    }

    /// The upstream of a client is there. `local` is the proxy's end of the connection to it.
    pub(crate) fn write_connect(
        &self,
        client: &ClientName,
        upstream: &Address,
        local: Option<&Address>,
        took: Duration,
    ) {
        let event = self.client_event(Level::Info, "proxy_connect", client);
        let event = event.field("upstream", &zone::shown_address(upstream));
        let event = match local {
            Some(local @ Address::Ip(_)) => event.field("local", &zone::shown_address(local)),
            _ => event,
        };
        event.field("connect_ms", &milliseconds(took)).write();
    }

    pub(crate) fn write_connect_failed(
        &self,
        client: &ClientName,
        upstream: &str,
        failure: &Failure,
    ) {
        self.client_event(Level::Warn, "upstream_failed", client)
            .field("upstream", upstream)
            .field("message", &failure.message)
            .write();
    }

    /// A rule has happened to a client, at a place of a direction or at accept, or what it had
    /// begun has ended at a place. `toxic` is what the rule is a part of, `explicit` the rule that
    /// does the same without randomness.
    pub(crate) fn write_fault(
        &self,
        client: &ClientName,
        rule: &str,
        toxic: Option<&str>,
        explicit: Option<&str>,
        place: Option<(Direction, FiredFault)>,
    ) {
        let is_lifted = place.is_some_and(|(_, fired)| fired.is_lifted);
        let name = if is_lifted { "fault_lifted" } else { "fault" };
        let event = self.client_event(Level::Warn, name, client).field("rule", rule);
        let event = match toxic {
            Some(toxic) => event.field("toxic", toxic),
            None => event,
        };
        let event = match explicit {
            Some(explicit) => event.field("explicit", explicit),
            None => event,
        };
        match place {
            None => event.write(),
            Some((direction, fired)) => {
                let event = event.field("direction", direction.word());
                let event = event.field("byte", &fired.position);
                match fired.frame {
                    None => event.write(),
                    Some((frame, byte)) => {
                        event.field("frame", &frame).field("frame_byte", &byte).write();
                    }
                }
            }
        }
    }

    /// The time of a rule for the listening sockets has begun.
    pub(crate) fn write_listener_fault(&self, rule: &str) {
        self.log.event(Level::Warn, "fault").field("rule", rule).write();
    }

    /// As many bytes are held for a direction as `hold` allows.
    pub(crate) fn write_hold_full(&self, client: &ClientName, direction: Direction, hold: usize) {
        self.client_event(Level::Warn, "hold_full", client)
            .field("direction", direction.word())
            .field("bytes", &hold)
            .write();
    }

    /// The frames of a direction stopped making sense.
    pub(crate) fn write_framing_lost(
        &self,
        client: &ClientName,
        direction: Direction,
        lost: LostFraming,
    ) {
        self.client_event(Level::Warn, "framing_lost", client)
            .field("direction", direction.word())
            .field("frame", &lost.frame)
            .field("byte", &lost.position)
            .write();
    }

    /// A rule has never happened.
    pub(crate) fn write_unfired(&self, rule: &Rule) {
        let event = self.log.event(Level::Warn, "fault_unfired");
        event.field("rule", &format_args!("{rule}")).write();
    }

    pub(crate) fn write_close(
        &self,
        client: &ClientName,
        upstream: &str,
        reason: RelayReason,
        [from_client, from_upstream]: &[SideReport; 2],
        lifetime: Duration,
    ) {
        let event = self
            .client_event(Level::Info, "proxy_close", client)
            .field("upstream", upstream)
            .field("reason", reason.word())
            .field("client_end", end_word(from_client.end))
            .field("client_got", from_client.got.word())
            .field("upstream_end", end_word(from_upstream.end))
            .field("upstream_got", from_upstream.got.word())
            .field("bytes_up", &from_client.bytes)
            .field("bytes_down", &from_upstream.bytes);
        let event = match (from_client.frames, from_upstream.frames) {
            (Some(up), Some(down)) => event.field("frames_up", &up).field("frames_down", &down),
            _ => event,
        };
        event
            .field("undelivered_up", &from_client.undelivered)
            .field("undelivered_down", &from_upstream.undelivered)
            .field("duration_ms", &milliseconds(lifetime))
            .write();
    }

    pub(crate) fn write_stats(
        &self,
        totals: &RelayTotals,
        open: &BTreeMap<&'static str, u64>,
        bytes: [u64; 2],
        uptime: Duration,
    ) {
        let by_reason: BTreeMap<&str, u64> =
            totals.by_reason.iter().map(|(reason, count)| (reason.word(), *count)).collect();
        self.log
            .event(Level::Info, "proxy_stats")
            .field("uptime_ms", &milliseconds(uptime))
            .field("connections", &totals.connections)
            .field("rejected", &totals.rejected)
            .field("active", &open.values().sum::<u64>())
            .field("bytes_up", &bytes[0])
            .field("bytes_down", &bytes[1])
            .field("by_state", open)
            .field("by_reason", &by_reason)
            .write();
    }

    pub(crate) fn write_stop(&self, totals: &RelayTotals, uptime: Duration) {
        self.log
            .event(Level::Info, "proxy_stop")
            .field("connections", &totals.connections)
            .field("rejected", &totals.rejected)
            .field("bytes_up", &totals.bytes[0])
            .field("bytes_down", &totals.bytes[1])
            .field("duration_ms", &milliseconds(uptime))
            .write();
    }
}

/// Adds the first of the addresses, and its port if it has one.
fn with_first<'a>(event: EventBuilder<'a>, addresses: &[Address]) -> EventBuilder<'a> {
    match addresses.first() {
        Some(Address::Ip(first)) => {
            event.field("addr", &zone::shown_ip(first)).field("port", &first.port())
        }
        Some(first @ Address::Unix(_)) => event.field("addr", &zone::shown_address(first)),
        None => event,
    }
}
