//! Servers in which no case may find a bug: ours, one with a thread per client, servers in other
//! languages, and relays in front of ours. Relays that are wrong by default are here too, with
//! their faults.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use trust_check::cases;
use trust_check::expect::Known;
use trust_check::setup::OnReset;
use trust_check::verdict::Verdict;
use trust_cli::framing::Framing;
use trust_net::preface::{PrefaceSource, ProxyPreface};
use trust_net::wire::ProxyVersion;

use super::constraints::{self, Constraints};
use super::foreign::{Foreign, Language};
use super::launch::{Program, Started};
use super::mutant::{Behaviour, HEALTHY, Server, TIMEOUT};
use super::mutants::MAX_FRAME;
use super::relay::Relay;

/// A right server.
#[derive(Debug)]
pub(crate) struct Healthy {
    pub(crate) name: &'static str,
    /// A description in a few words.
    pub(crate) about: &'static str,
    /// Its framing, as for `--framing`, `--offset` and `--adjust`.
    framing: &'static str,
    offset: u16,
    adjust: i64,
    pub(crate) max_frame: u64,
    /// What its connections begin with, if with a PROXY header.
    pub(crate) preface: Option<ProxyPreface>,
    /// Its timeout, if it has one.
    pub(crate) timeout: Option<Duration>,
    /// How long to wait for an answer.
    pub(crate) patience: Duration,
    /// What an RST means where a FIN would do.
    pub(crate) reset: OnReset,
    /// Findings that are expected all the same: lines as for `--expect`, each with the reason in a
    /// comment.
    pub(crate) findings: &'static str,
    /// Whether a race decides which of these are found: then one is enough.
    pub(crate) is_race: bool,
    /// Cases not tried with it, and why.
    pub(crate) left_out: &'static [(&'static str, &'static str)],
    pub(crate) program: Program,
}

/// Whom a client may claim to be.
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// As long as a user has reason to wait on a busy machine, and less than the default.
const PATIENCE: Duration = Duration::from_secs(3);

const STD: Healthy = Healthy {
    name: "std",
    about: "a thread per client, in Rust",
    framing: "u32be",
    offset: 0,
    adjust: 0,
    max_frame: MAX_FRAME,
    preface: None,
    timeout: Some(TIMEOUT),
    patience: PATIENCE,
    reset: OnReset::Warn,
    findings: "",
    is_race: false,
    left_out: &[],
    program: Program::Own(HEALTHY),
};

/// A server with a thread per client that is short of something.
const fn short_of(name: &'static str, about: &'static str, constraints: Constraints) -> Healthy {
    Healthy { name, about, program: Program::Own(Behaviour { constraints, ..HEALTHY }), ..STD }
}

/// A server that spends this long on each message.
const fn slow(name: &'static str, about: &'static str, service_ms: u64) -> Healthy {
    let service_time = Duration::from_millis(service_ms);
    short_of(name, about, Constraints { service_time, ..constraints::NONE })
}

const fn ours(name: &'static str, about: &'static str, flags: &'static [&'static str]) -> Healthy {
    Healthy { name, about, program: Program::EchoServer(flags), ..STD }
}

const fn relayed(name: &'static str, about: &'static str, relay: Relay) -> Healthy {
    Healthy { name, about, program: Program::Relayed(relay), ..STD }
}

/// The same for clients whose connections begin with a PROXY header.
const fn relayed_with_header(
    name: &'static str,
    about: &'static str,
    relay: Relay,
    version: ProxyVersion,
    source: PrefaceSource,
) -> Healthy {
    Healthy { preface: Some(ProxyPreface { version, source }), ..relayed(name, about, relay) }
}

/// A relay that ends both directions at the first FIN. An answer may still win the race against
/// that, but where bytes are left unread, a RST may in turn overtake the answer.
const fn cutting(
    name: &'static str,
    about: &'static str,
    relay: Relay,
    findings: &'static str,
) -> Healthy {
    Healthy { findings, is_race: true, reset: OnReset::Pass, ..relayed(name, about, relay) }
}

const fn foreign(
    name: &'static str,
    about: &'static str,
    language: Language,
    source: &'static str,
    arguments: &'static [&'static str],
) -> Healthy {
    let program = Program::Foreign(Foreign { language, name: source, arguments });
    Healthy { name, about, program, ..STD }
}

/// The same without a timeout.
const fn patient(healthy: Healthy) -> Healthy {
    Healthy { timeout: None, ..healthy }
}

/// The same without messages.
const fn raw(healthy: Healthy) -> Healthy {
    Healthy { framing: "raw", ..healthy }
}

/// All of them, the slowest first.
pub(crate) const ALL: &[Healthy] = &[
    Healthy { ..slow("std-slow-300ms", "300 ms per message", 300) },
    slow("std-slow-100ms", "100 ms per message", 100),
    slow("std-slow-30ms", "30 ms per message", 30),
    slow("std-slow-1ms", "1 ms per message", 1),
    relayed("socat", "socat with `-t 30`, a process per connection", Relay::Socat),
    relayed("socat-unix", "socat with `-t 30`, on a unix socket", Relay::SocatUnix),
    relayed("haproxy", "HAProxy in mode tcp, long timeouts", Relay::HaProxy),
    relayed("nginx", "nginx's stream module, `proxy_half_close on`, a long timeout", Relay::Nginx),
    relayed_with_header(
        "haproxy-accept-proxy",
        "HAProxy with `accept-proxy`, checked with `--send-proxy v2=203.0.113.7:4711`",
        Relay::HaProxyBehindHeader,
        ProxyVersion::V2,
        PrefaceSource::Address { ip: IpAddr::V4(CLIENT), port: Some(4711) },
    ),
    relayed_with_header(
        "nginx-proxy-protocol",
        "nginx with `proxy_protocol`, checked with `--send-proxy v1`",
        Relay::NginxBehindHeader,
        ProxyVersion::V1,
        PrefaceSource::Own,
    ),
    cutting(
        "nginx-default",
        "nginx's stream module as it comes",
        Relay::NginxDefault,
        include_str!("servers/nginx_default.expect"),
    ),
    cutting("rinetd", "rinetd as it comes", Relay::Rinetd, include_str!("servers/rinetd.expect")),
    Healthy {
        ..foreign(
            "python-asyncio",
            "asyncio streams in Python",
            Language::Python,
            "echo_asyncio",
            &["MAX_FRAME", "TIMEOUT"],
        )
    },
    Healthy {
        ..foreign(
            "python-socketserver",
            "Python's `socketserver`, a thread per client, an accept queue of five",
            Language::Python,
            "echo_socketserver",
            &["MAX_FRAME", "TIMEOUT"],
        )
    },
    foreign(
        "python-asyncio-unix",
        "asyncio streams in Python, on a unix socket",
        Language::Python,
        "echo_asyncio",
        &["MAX_FRAME", "TIMEOUT", "SOCKET"],
    ),
    foreign(
        "python-socketserver-unix",
        "Python's `socketserver`, an accept queue of five, on a unix socket",
        Language::Python,
        "echo_socketserver",
        &["MAX_FRAME", "TIMEOUT", "SOCKET"],
    ),
    patient(foreign(
        "java",
        "Java's `DataInputStream`, a thread per client",
        Language::Java,
        "EchoThreads",
        &["MAX_FRAME"],
    )),
    Healthy {
        ..raw(patient(foreign(
            "netty-raw",
            "netty, bytes as they come",
            Language::Netty,
            "EchoNetty",
            &["raw"],
        )))
    },
    raw(patient(foreign("go-copy", "Go's `io.Copy`", Language::Go, "echo", &["raw"]))),
    raw(patient(foreign("node", "Node's `socket.pipe(socket)`", Language::Node, "echo_pipe", &[]))),
    raw(patient(foreign(
        "node-unix",
        "Node's `socket.pipe(socket)`, on a unix socket",
        Language::Node,
        "echo_pipe",
        &["SOCKET"],
    ))),
    patient(foreign(
        "netty-frames",
        "netty's length decoder, back-pressure, and what is owed flushed before the end",
        Language::Netty,
        "EchoNetty",
        &["MAX_FRAME"],
    )),
    foreign(
        "go-readfull",
        "Go's `io.ReadFull`, a goroutine per client",
        Language::Go,
        "echo",
        &["MAX_FRAME", "TIMEOUT"],
    ),
    Healthy {
        findings: include_str!("servers/erlang.expect"),
        ..patient(foreign(
            "erlang",
            "Erlang's `{packet, 4}`, a process per client",
            Language::Erlang,
            "echo",
            &["MAX_FRAME"],
        ))
    },
    patient(foreign(
        "erlang-unix",
        "Erlang's `{packet, 4}`, on a unix socket, where nothing is lost",
        Language::Erlang,
        "echo",
        &["MAX_FRAME", "SOCKET"],
    )),
    STD,
    Healthy {
        name: "std-exact",
        about: "a thread per client, `read_exact`",
        program: Program::Own(Behaviour { exact: true, ..HEALTHY }),
        ..STD
    },
    Healthy {
        name: "std-without-timeout",
        about: "a thread per client, no timeout",
        timeout: None,
        program: Program::Own(Behaviour { no_timeout: true, ..HEALTHY }),
        ..STD
    },
    Healthy { name: "std-u16le", framing: "u16le", max_frame: 60_000, ..STD },
    Healthy { name: "std-u24be+incl", framing: "u24be+incl", max_frame: 1_000, ..STD },
    Healthy { name: "std-u8", framing: "u8", max_frame: 255, ..STD },
    Healthy { name: "std-one-byte", max_frame: 1, ..STD },
    Healthy { name: "std-nothing", framing: "u8", adjust: -255, ..STD },
    Healthy { name: "std-u16be-offset", framing: "u16be", offset: 3, adjust: -2, ..STD },
    Healthy { name: "std-u64le", framing: "u64le", offset: 1, ..STD },
    Healthy { name: "std-line", framing: "line", ..STD },
    short_of(
        "std-10-clients",
        "10 clients at a time, others are closed at once",
        Constraints { clients_max: Some(10), ..constraints::NONE },
    ),
    short_of(
        "std-50-clients",
        "50 clients at a time, others are closed at once",
        Constraints { clients_max: Some(50), ..constraints::NONE },
    ),
    ours("ours-10-clients", "ours, `--max-clients 10`", &["--mode=framed", "--max-clients=10"]),
    ours("ours-50-clients", "ours, `--max-clients 50`", &["--mode=framed", "--max-clients=50"]),
    Healthy {
        ..short_of(
            "std-backlog-1",
            "an accept queue of one",
            Constraints { backlog: 1, ..constraints::NONE },
        )
    },
    short_of(
        "std-small-buffers",
        "the smallest buffers that the kernel allows",
        Constraints { small_buffers: true, ..constraints::NONE },
    ),
    short_of(
        "std-iterative",
        "one client after the other",
        Constraints { one_at_a_time: true, ..constraints::NONE },
    ),
    ours("ours-event", "ours, `--model event`", &["--mode=framed", "--model=event"]),
    ours("ours-iterative", "ours, `--model iterative`", &["--mode=framed", "--model=iterative"]),
    ours("ours-process", "ours, `--model process`", &["--mode=framed", "--model=process"]),
    raw(ours("ours-raw", "ours, `--mode raw`", &["--mode=raw"])),
    ours("ours-auto", "ours, `--mode auto`", &["--mode=auto"]),
    Healthy {
        preface: Some(ProxyPreface { version: ProxyVersion::V2, source: PrefaceSource::Own }),
        ..ours(
            "ours-proxy-protocol",
            "ours, `--proxy-protocol`, checked with `--send-proxy v2`",
            &["--mode=framed", "--proxy-protocol"],
        )
    },
    Healthy {
        name: "codec",
        about: "tokio-util's `LengthDelimitedCodec`",
        max_frame: 16 * 1024 * 1024,
        timeout: None,
        findings: include_str!("servers/codec.expect"),
        program: Program::Codec,
        ..STD
    },
];

impl Healthy {
    /// Its framing.
    pub(crate) fn framing(&self) -> Framing {
        let framing = Framing::parse(self.framing).expect("the framing has a name");
        let Framing::Length(format) = framing else { return framing };
        let moved = format.with_offset(self.offset).and_then(|it| it.with_adjust(self.adjust));
        Framing::Length(moved.expect("the offset and the adjustment are small"))
    }

    /// The flags of `trustctl check` for its framing, without the leading `--framing`.
    pub(crate) fn framing_flags(&self) -> String {
        let mut flags = self.framing.to_owned();
        if self.offset > 0 {
            flags += &format!(" --offset {}", self.offset);
        }
        if self.adjust != 0 {
            flags += &format!(" --adjust={}", self.adjust);
        }
        flags
    }

    /// What is wrong with this verdict on it, if anything.
    pub(crate) fn problem(&self, id: &str, verdict: &Verdict) -> Option<&'static str> {
        let findings = Known::parse(self.findings).expect("the findings are cases");
        match (verdict, findings.names(id)) {
            (Verdict::Fail(_), false) => Some("must not fail on a right server"),
            (Verdict::Warn(_), false) => Some("must not warn about a right server"),
            (Verdict::Pass | Verdict::Info(_), true) if !self.is_race => {
                Some("finds nothing, though it is listed")
            }
            _ => None,
        }
    }

    /// What is wrong if nothing is found in it, if anything.
    pub(crate) fn problem_without_findings(&self) -> Option<&'static str> {
        self.is_race.then_some("not one of its findings was found")
    }

    /// Why it is not tried with this case, if it is not.
    pub(crate) fn reason_to_leave_out(&self, id: &str) -> Option<&'static str> {
        self.left_out.iter().find(|(case, _)| *case == id).map(|(_, reason)| *reason)
    }

    /// Errors in its lists: findings without a reason, and names that are not cases.
    pub(crate) fn misnamed(&self) -> impl Iterator<Item = String> {
        let is_case = |name: &str| cases::all().any(|case| case.id == name);
        let lines = self.findings.lines().filter(|line| !line.starts_with('#'));
        let bare =
            lines.filter(|line| !line.contains("# ")).map(|line| format!("no reason: {line}"));
        let left_out = self.left_out.iter().filter(move |(name, _)| !is_case(name));
        bare.chain(left_out.map(|(name, _)| format!("there is no case {name}")))
    }

    /// Starts it; returns when it listens.
    pub(crate) fn start(&self) -> Started {
        self.program.start(self)
    }
}

/// The server of this executable with this name.
pub(crate) fn own(name: &str) -> Option<Server> {
    let healthy = ALL.iter().find(|healthy| healthy.name == name)?;
    let Program::Own(behaviour) = healthy.program else { return None };
    Some(Server { framing: healthy.framing(), max_frame: healthy.max_frame, behaviour })
}
