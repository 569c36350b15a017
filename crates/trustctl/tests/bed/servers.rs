//! The servers, and what `trustctl check` is to find in them.

use std::fmt;

use trust_check::report::json::VerdictName;

/// Configurations, programs and exchange files.
pub(crate) const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/servers");

/// A server of somebody else, or ours.
#[derive(Debug)]
pub(crate) struct BedServer {
    pub(crate) name: &'static str,
    /// A description in a few words.
    pub(crate) about: &'static str,
    /// The command that prints its version, and what stands before it there.
    pub(crate) version: (&'static str, &'static str),
    /// Files of `servers/` that are copied into its directory, with the marks of `command`
    /// replaced.
    pub(crate) files: &'static [&'static str],
    /// Commands that run before it, also as words.
    pub(crate) prepare: &'static [&'static str],
    /// The command that runs it in its directory, as words, in which `@PORT@`, `@DIRECTORY@`,
    /// `@BED@` and `@SERVER@` stand for its port, its directory, where the downloads are, and the
    /// port that a box passes on to.
    pub(crate) command: &'static str,
    /// How it was set up, in words.
    pub(crate) set_up: &'static str,
    pub(crate) port: PortChoice,
    /// The process that was started is the whole server, with its children if it has some.
    pub(crate) is_one_process: bool,
    /// One exchange that it answers once it is up.
    pub(crate) probe: Probe,
    /// What it is checked with, a run each.
    pub(crate) speaks: &'static [Speaks],
    /// Further arguments of `trustctl check`.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) kind: Kind,
    /// All that is found in it, other than what passes, is measured or does not apply.
    pub(crate) findings: &'static [Finding],
}

/// Who chooses the port of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortChoice {
    /// It is told one.
    Given,
    /// It takes one itself.
    Own,
}

/// What is sent on a new connection, and what the answer contains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) send: &'static [u8],
    pub(crate) want: &'static [u8],
}

/// What it is checked with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speaks {
    /// The built-in dialect of that name.
    Dialect(&'static str),
    /// The exchange file of that name in `servers/`.
    File(&'static str),
    /// Nothing: it echoes.
    Echo,
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is right: no case fails, and none is inconclusive.
    Right,
    /// It has a fault.
    Wrong,
    /// It has a fault that harms others, and its maintainers do not know yet.
    Withheld,
}

/// What is found in a server.
#[derive(Debug)]
pub(crate) struct Finding {
    /// Ids of cases, or patterns, with spaces between them.
    pub(crate) cases: &'static str,
    pub(crate) verdict: VerdictName,
    /// What the report says of each of them, in part.
    pub(crate) says: &'static str,
    /// What it is, and why it is so.
    pub(crate) why: &'static str,
    pub(crate) occurs: Occurs,
}

/// When one case of a finding has to have it, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occurs {
    /// In each run.
    Always,
    /// In each run of all cases.
    InFull,
    /// In some runs.
    Sometimes,
}

impl BedServer {
    /// What follows the address in a call of `trustctl check`.
    pub(crate) fn check_arguments(&self, speaks: Speaks) -> Vec<String> {
        let own = match speaks {
            Speaks::Dialect(name) => vec!["--dialect".to_owned(), name.to_owned()],
            Speaks::File(name) => vec!["--exchange".to_owned(), format!("{SERVERS}/{name}")],
            Speaks::Echo => vec![],
        };
        own.into_iter().chain(self.arguments.iter().copied().map(str::to_owned)).collect()
    }
}

impl Finding {
    const fn new(
        cases: &'static str,
        verdict: VerdictName,
        says: &'static str,
        why: &'static str,
    ) -> Finding {
        Finding { cases, verdict, says, why, occurs: Occurs::Always }
    }

    /// A failure.
    pub(crate) const fn fail(
        cases: &'static str,
        says: &'static str,
        why: &'static str,
    ) -> Finding {
        Finding::new(cases, VerdictName::Fail, says, why)
    }

    /// A warning.
    pub(crate) const fn warn(
        cases: &'static str,
        says: &'static str,
        why: &'static str,
    ) -> Finding {
        Finding::new(cases, VerdictName::Warn, says, why)
    }

    /// What its dialect allows.
    const fn allowed(cases: &'static str, says: &'static str, why: &'static str) -> Finding {
        Finding::new(cases, VerdictName::Allowed, says, why)
    }

    /// Only in runs of all cases.
    const fn in_full(self) -> Finding {
        Finding { occurs: Occurs::InFull, ..self }
    }

    /// Not in each run, or not each of its cases.
    pub(crate) const fn sometimes(self) -> Finding {
        Finding { occurs: Occurs::Sometimes, ..self }
    }
}

impl Speaks {
    /// The name of the dialect or the file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Speaks::Dialect(name) | Speaks::File(name) => name,
            Speaks::Echo => "echo",
        }
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speaks::Dialect(name) => write!(f, "--dialect {name}"),
            Speaks::File(name) => write!(f, "--exchange {name}"),
            Speaks::Echo => f.write_str("echo"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Right => "right",
            Kind::Wrong => "faulty",
            Kind::Withheld => "faulty; its maintainers do not know yet",
        })
    }
}

const DNS: Probe = Probe {
    send: b"\0\x1c\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04test\x05local\0\0\x01\0\x01",
    want: &[192, 0, 2, 1],
};
const FTP: Probe = Probe { send: b"", want: b"220" };
const HTTP: Probe = Probe { send: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: b"hello\n" };
const MODBUS: Probe = Probe {
    send: b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x01",
    want: b"\0\x01\0\0\0\x05\x01\x03\x02\x01\0",
};
pub(crate) const ECHO: Probe = Probe { send: b"\0\0\0\x05hello", want: b"\0\0\0\x05hello" };

/// What most have in common: the rest says more.
pub(crate) const PLAIN: BedServer = BedServer {
    name: "",
    about: "",
    version: ("", ""),
    files: &[],
    prepare: &[],
    command: "",
    set_up: "with its defaults",
    port: PortChoice::Given,
    is_one_process: true,
    probe: HTTP,
    speaks: &[Speaks::Dialect("http"), Speaks::File("http.toml")],
    arguments: &[],
    kind: Kind::Right,
    findings: &[],
};

/// Our echo server.
const OURS: BedServer = BedServer {
    version: ("trustctl --version", "trustctl "),
    probe: ECHO,
    speaks: &[Speaks::Echo],
    ..PLAIN
};

/// A certificate for localhost, signed by itself.
const CERTIFICATE: &str = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -keyout key.pem -out certificate.pem";

/// A server that offers TLS.
const NOT_IN_PLAIN_TEXT: Finding = Finding::new(
    "upgrade/1",
    VerdictName::Info,
    "nothing is answered in plain text",
    "what comes in plain text with the request for TLS is not answered in plain text",
);

/// What several of them do.
const REFUSES_WITH_A_RESET: Finding =
    Finding::warn("closing/4 closing/12", "reset the connection", RESET);
const RESET: &str = "a request that it refuses ends in a RST if bytes are unread, which may \
                     overtake answers";
const NAGLE: Finding = Finding::warn("timing/6", "of two small answers", DELAYED).in_full();
const DELAYED: &str =
    "Nagle's algorithm stays on: of two small answers the second comes 40 ms later";
const HALF_CLOSE: &str = "a client that has half-closed the connection loses its answers";
const CUT_REQUEST: &str = "a request that is cut off by a FIN is answered with 400";
const REFUSAL_INSTEAD: &str = "if a request and one that has to be refused come with one segment, \
                               the refusal is the answer to the first (RFC 9112, section 9.3.2: \
                               answers come in order)";
const DROPPED_ANSWER: &str = "if a request and one that has to be refused come with one segment, \
                              the first is not answered";

/// All of them: those that are right, and those that are not.
pub(crate) const ALL: &[BedServer] = &[
    BedServer {
        name: "redis",
        about: "Redis",
        version: ("redis-server --version", "v="),
        command: "redis-server --bind 127.0.0.1 --port @PORT@",
        probe: Probe { send: b"PING\r\n", want: b"+PONG\r\n" },
        speaks: &[Speaks::Dialect("redis")],
        findings: &[REFUSES_WITH_A_RESET],
        ..PLAIN
    },
    BedServer {
        name: "memcached",
        about: "memcached",
        version: ("memcached --version", "memcached "),
        command: "memcached -l 127.0.0.1 -p @PORT@ -u root",
        probe: Probe { send: b"version\r\n", want: b"VERSION " },
        speaks: &[Speaks::Dialect("memcached")],
        is_one_process: true,
        ..PLAIN
    },
    BedServer {
        name: "nats",
        about: "NATS",
        version: ("nats-server --version", "nats-server: v"),
        command: "nats-server --addr 127.0.0.1 --port @PORT@",
        probe: Probe { send: b"", want: b"INFO " },
        speaks: &[Speaks::File("nats.toml")],
        findings: &[REFUSES_WITH_A_RESET],
        ..PLAIN
    },
    BedServer {
        name: "beanstalkd",
        about: "beanstalkd",
        version: ("beanstalkd -v", "beanstalkd "),
        command: "beanstalkd -l 127.0.0.1 -p @PORT@",
        probe: Probe { send: b"list-tube-used\r\n", want: b"USING default" },
        speaks: &[Speaks::Dialect("line")],
        is_one_process: true,
        ..PLAIN
    },
    BedServer {
        name: "unbound",
        about: "unbound with a local zone",
        version: ("unbound -V", "Version "),
        files: &["unbound.conf"],
        command: "unbound -d -c unbound.conf",
        probe: DNS,
        findings: &[NAGLE],
        speaks: &[Speaks::Dialect("dns"), Speaks::File("dns.toml")],
        set_up: "a local zone, no forwarding",
        ..PLAIN
    },
    BedServer {
        name: "nginx",
        about: "nginx, `return` in its configuration",
        version: ("nginx -v", "nginx/"),
        files: &["nginx.conf"],
        command: "nginx -e stderr -p @DIRECTORY@ -c nginx.conf",
        set_up: "`return` in its configuration, one process",
        ..PLAIN
    },
    BedServer {
        name: "node-http",
        about: "Node's `http`",
        version: ("node --version", "v"),
        files: &["http.js"],
        command: "node http.js @PORT@",
        set_up: "a handler that answers with the body",
        findings: &[
            Finding::warn("framing/16 closing/4", "RFC 9112 section 9.3.2", REFUSAL_INSTEAD),
            Finding::warn("closing/12", "reset the connection", RESET),
            Finding::allowed("closing/3 half-close/5", "RFC 9112 section 8", CUT_REQUEST),
        ],
        ..PLAIN
    },
    BedServer {
        name: "ws",
        about: "Node's `http` and ws",
        version: ("node -p require('ws/package.json')", "version: '"),
        files: &["ws.js"],
        command: "node ws.js @PORT@",
        set_up: "a handler that answers every request, and a server of WebSockets",
        findings: &[
            Finding::warn("closing/4 closing/12", "reset the connection", RESET),
            Finding::allowed("closing/3 half-close/5", "RFC 9112 section 8", CUT_REQUEST),
            Finding::new(
                "upgrade/2",
                VerdictName::Info,
                "are answered as those after it",
                "a frame in the segment of the request to upgrade is kept",
            ),
        ],
        ..PLAIN
    },
    BedServer {
        name: "uvicorn",
        about: "uvicorn with h11",
        version: ("python -m uvicorn --version", "uvicorn "),
        files: &["asgi.py"],
        command: "python -m uvicorn --host 127.0.0.1 --port @PORT@ --http h11 --loop asyncio \
            --no-access-log asgi:app",
        findings: &[REFUSES_WITH_A_RESET],
        set_up: "`--http h11 --loop asyncio`",
        ..PLAIN
    },
    BedServer {
        name: "mosquitto",
        about: "Mosquitto",
        version: ("mosquitto -h", "version "),
        files: &["mosquitto.conf"],
        command: "mosquitto -c mosquitto.conf",
        probe: Probe { send: b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0", want: b"\x20\x02\0\0" },
        speaks: &[Speaks::Dialect("mqtt")],
        findings: &[
            Finding::warn("framing/18 closing/4 closing/12", "reset the connection", RESET),
            NAGLE,
        ],
        set_up: "anonymous clients are let in",
        ..PLAIN
    },
    BedServer {
        name: "postgres",
        about: "PostgreSQL",
        version: ("postgres --version", "(PostgreSQL) "),
        prepare: &[
            "unshare --user --map-user=65534 initdb --pgdata=data --username=postgres \
                --auth=trust --no-locale --encoding=UTF8 --no-sync",
            CERTIFICATE,
        ],
        // It refuses to run as root, so it gets a namespace of users in which it is not.
        command: "unshare --user --map-user=65534 postgres -D data -p @PORT@ -c \
            listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c ssl=on \
            -c ssl_cert_file=@DIRECTORY@/certificate.pem -c ssl_key_file=@DIRECTORY@/key.pem",
        probe: Probe {
            send: b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0",
            want: b"R\0\0\0\x08\0\0\0\0",
        },
        speaks: &[Speaks::Dialect("postgres")],
        findings: &[
            Finding::warn("closing/4 closing/12 closing/13", "reset the connection", RESET),
            NOT_IN_PLAIN_TEXT,
        ],
        set_up: "a new cluster, `trust` for local clients, `fsync=off`, `ssl=on`",
        ..PLAIN
    },
    BedServer {
        name: "slapd",
        about: "OpenLDAP",
        version: ("slapd -VV", "slapd "),
        files: &["slapd.conf"],
        prepare: &[CERTIFICATE],
        command: "slapd -h ldap://127.0.0.1:@PORT@ -f slapd.conf -d 0",
        probe: Probe {
            send: b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\0\x80\0",
            want: b"0\x0c\x02\x01\x01a\x07\n\x01\0",
        },
        speaks: &[Speaks::File("ldap.toml")],
        set_up: "without a database, with a certificate for StartTLS",
        findings: &[
            Finding::warn("half-close/*", "RFC 4511 section 5.3", HALF_CLOSE),
            Finding::new(
                "upgrade/1",
                VerdictName::Info,
                "does not accept the request",
                "a request for TLS that bytes follow is refused",
            ),
        ],
        ..PLAIN
    },
    BedServer {
        name: "aiosmtpd",
        about: "aiosmtpd",
        version: ("python -m aiosmtpd --version", "aiosmtpd "),
        prepare: &[CERTIFICATE],
        command: "python -m aiosmtpd -n -l 127.0.0.1:@PORT@ --tlscert certificate.pem \
            --tlskey key.pem",
        probe: Probe { send: b"", want: b"220 " },
        speaks: &[Speaks::Dialect("smtp")],
        set_up: "with a certificate for STARTTLS",
        findings: &[NOT_IN_PLAIN_TEXT],
        ..PLAIN
    },
    BedServer {
        name: "pyftpdlib",
        about: "pyftpdlib",
        version: ("python -m pip show pyftpdlib", "Version: "),
        command: "python -m pyftpdlib -i 127.0.0.1 -p @PORT@",
        probe: FTP,
        speaks: &[Speaks::Dialect("ftp")],
        ..PLAIN
    },
    BedServer {
        name: "libmodbus",
        about: "libmodbus, a process per client",
        version: ("modbus --version", "libmodbus "),
        command: "modbus @PORT@",
        probe: MODBUS,
        findings: &[NAGLE],
        speaks: &[Speaks::Dialect("modbus")],
        set_up: "a server of 60 lines on the library, a process per client",
        ..PLAIN
    },
    BedServer {
        name: "mariadb",
        about: "MariaDB, of which only the greeting is checked",
        version: ("mariadbd --no-defaults --version", "Ver "),
        command: "mariadbd --no-defaults --user=root --datadir=@DIRECTORY@ \
            --socket=@DIRECTORY@/socket --bind-address=127.0.0.1 --port=@PORT@ \
            --skip-grant-tables --lc-messages-dir=@BED@/debian/usr/share/mysql",
        probe: Probe { send: b"", want: b"MariaDB" },
        speaks: &[Speaks::Dialect("mysql")],
        set_up: "without grant tables; only the greeting is checked",
        ..PLAIN
    },
    BedServer {
        name: "kafka-mock",
        about: "librdkafka's mock of a Kafka broker",
        version: ("kcat -V", "librdkafka "),
        command: "kcat -X test.mock.num.brokers=1 -b mock -P -t trustctl-check",
        port: PortChoice::Own,
        probe: Probe { send: b"\0\0\0\x0b\0\x12\0\0\0\0\0\x01\0\x01t", want: b"\0\0\0\x01\0\0" },
        speaks: &[Speaks::Dialect("kafka")],
        findings: &[
            Finding::warn("framing/16", "no answer came", DROPPED_ANSWER),
            Finding::warn(
                "framing/6 framing/17 framing/18 closing/4 closing/12",
                "reset the connection",
                RESET,
            ),
            NAGLE,
        ],
        ..PLAIN
    },
    BedServer {
        name: "echo-event",
        about: "`trustctl echo-server`",
        command: "trustctl echo-server --port=@PORT@",
        ..OURS
    },
    BedServer {
        name: "echo-iterative",
        about: "`trustctl echo-server --model iterative`",
        command: "trustctl echo-server --port=@PORT@ --model=iterative",
        ..OURS
    },
    BedServer {
        name: "echo-process",
        about: "`trustctl echo-server --model process`",
        command: "trustctl echo-server --port=@PORT@ --model=process",
        ..OURS
    },
    BedServer {
        name: "echo-inetd",
        about: "`trustctl echo-server --inetd` under tcpserver",
        command: "tcpserver -q -H -R -l localhost -c 1000 127.0.0.1 @PORT@ trustctl echo-server \
            --inetd",
        set_up: "under `tcpserver`",
        ..OURS
    },
    BedServer {
        name: "ftp-srv",
        about: "ftp-srv of npm",
        version: ("node -p require('ftp-srv/package.json')", "version: '"),
        files: &["ftp.js"],
        command: "node ftp.js @PORT@",
        probe: FTP,
        speaks: &[Speaks::Dialect("ftp")],
        kind: Kind::Wrong,
        findings: &[
            Finding::fail(
                "partial/* pipelining/* limits/2 recovery/7 recovery/12",
                "another answer came",
                "what came with one receive is taken for one command: a command in two segments \
                 is answered as two, and one with the beginning of the next as another",
            ),
            Finding::fail(
                "timing/*",
                " bytes came",
                "the same: a client that is silent inside a command is answered",
            )
            .in_full(),
            NAGLE,
            Finding::warn(
                "partial/10",
                "bytes came after",
                "the first part of a command is answered before the rest is sent",
            ),
            Finding::fail("half-close/*", "the server closed the connection", HALF_CLOSE),
            Finding::allowed(
                "closing/3",
                "RFC 959 section 4.2",
                "a command without its line end is answered with an error",
            ),
        ],
        ..PLAIN
    },
    BedServer {
        name: "pymodbus",
        about: "the server of pymodbus",
        version: ("python -m pip show pymodbus", "Version: "),
        files: &["modbus_server.py"],
        command: "python modbus_server.py @PORT@",
        probe: MODBUS,
        speaks: &[Speaks::Dialect("modbus")],
        kind: Kind::Wrong,
        set_up: "a holding register and its defaults",
        findings: &[
            Finding::fail(
                "pipelining/*",
                "no answer came; then nothing more came",
                "of several requests in one segment none is answered",
            ),
            Finding::warn(
                "partial/5 partial/7 pipelining/* timing/6 recovery/6",
                "1 answer came right, then no answer came",
                "of two requests in one segment one is never answered; the guide advises against \
                 two",
            ),
            Finding::fail("half-close/*", "the server closed the connection", HALF_CLOSE),
        ],
        ..PLAIN
    },
    BedServer {
        name: "aiohttp",
        about: "the server of aiohttp",
        version: ("python -m pip show aiohttp", "Version: "),
        files: &["aiohttp_server.py"],
        command: "python aiohttp_server.py @PORT@",
        set_up: "a handler that answers with the body",
        findings: &[
            Finding::warn("framing/16 closing/4", "RFC 9112 section 9.3.2", REFUSAL_INSTEAD),
            Finding::warn("half-close/*", "the server closed the connection", HALF_CLOSE),
        ],
        ..PLAIN
    },
    BedServer {
        name: "http.server",
        about: "CPython's `http.server`",
        version: ("python --version", "Python "),
        files: &["index.html"],
        command: "python -m http.server --bind 127.0.0.1 @PORT@",
        kind: Kind::Withheld,
        speaks: &[Speaks::Dialect("http")],
        set_up: "an index page",
        findings: &[Finding::fail(
            "closing/3",
            // HTTP/1.0 200.
            "48 54 54 50 2f 31 2e 30 20 32 30 30",
            "a request whose headers are cut off by a FIN is answered with 200",
        )],
        ..PLAIN
    },
    BedServer {
        name: "gunicorn",
        about: "gunicorn",
        version: ("python -m gunicorn --version", "gunicorn (version "),
        files: &["wsgi.py"],
        command: "python -m gunicorn --no-control-socket --bind 127.0.0.1:@PORT@ wsgi:app",
        probe: Probe { send: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: b"nothing\n" },
        kind: Kind::Withheld,
        speaks: &[Speaks::File("http-state.toml")],
        set_up: "a handler that reads as many bytes as `Content-Length` says; one worker",
        findings: &[Finding::fail(
            "effect/1",
            "parts were executed",
            "a body that is cut off by a FIN is given to the application as if it were whole",
        )],
        ..PLAIN
    },
    BedServer {
        name: "jsmodbus",
        about: "the server of jsmodbus of npm",
        version: ("node -p require('jsmodbus/package.json')", "version: '"),
        files: &["modbus.js"],
        command: "node modbus.js @PORT@",
        probe: MODBUS,
        speaks: &[Speaks::Dialect("modbus")],
        kind: Kind::Withheld,
        set_up: "a buffer of registers",
        findings: &[
            Finding::fail(
                "closing/* limits/* resources/9",
                "Connection refused",
                "a client that resets the connection ends the process",
            ),
            Finding::fail("resources/1", "it died during", "the same").in_full(),
        ],
        ..PLAIN
    },
    BedServer {
        name: "dnsmasq",
        about: "dnsmasq",
        version: ("dnsmasq --version", "version "),
        command: "dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= \
            --listen-address=127.0.0.1 --bind-interfaces --port=@PORT@ --user=root --no-resolv \
            --no-hosts --address=/test.local/192.0.2.1",
        probe: DNS,
        speaks: &[Speaks::Dialect("dns")],
        arguments: &["--max-clients=20"],
        kind: Kind::Wrong,
        set_up: "one address; 20 clients at a time over TCP, so `--max-clients 20`",
        findings: &[Finding::fail(
            "partial/* pipelining/* half-close/* timing/* recovery/6",
            "another answer came",
            "after a query with EDNS, answers to queries without it have an OPT record too on the \
             same connection (RFC 6891, section 7)",
        )],
        ..PLAIN
    },
];
